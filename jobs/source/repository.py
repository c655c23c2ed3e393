"""Hub datasets whose files this project reads itself: planned over the repository's listing, read in parts.

A shard is a file, or row groups or bytes of one, and its version is the id of the file's blob: a new commit changes the
shards of the files that it changes, and no others.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.hub import blobs
from jobs.hub.files import WHOLE_BYTES, HubFiles, path_of, path_of_url
from jobs.hub.parts import merged
from jobs.hub.tree import Tree
from jobs.source import labels, lake, layouts
from jobs.source.files import File
from jobs.source.formats import jsonl, parquet
from jobs.source.kind import Found
from jobs.source.shard import BadRow, Layout, Shard
from jobs.source.splits import Split
from jobs.spec import SourceSpec
from transforms.errors import UnreadableSource
from transforms.options import column_of

# Reader of `datasets` -> ours.
FORMATS = {"parquet": "parquet", "csv": "csv", "json": "jsonl", "arrow": "arrow"}

# Parameter of the CSV reader of `datasets` -> key of the section.
CSV = {
    "sep": "delimiter",
    "delimiter": "delimiter",
    "quotechar": "quote",
    "escapechar": "escape",
    "comment": "comment",
    "encoding": "encoding",
}


def can_read(split: Split, found_tree: Tree) -> bool:
    """Whether the files of a split are read here; those of other formats `datasets` reads."""
    if split.builder not in FORMATS or not split.files or any(path.endswith(".zip") for path in split.files):
        return False
    if split.builder == "csv":
        known = all(name in CSV and _fits(CSV[name], value) for name, value in split.parameters.items())
        return split.is_plain and known
    return not split.parameters and (split.builder != "json" or _has_lines(found_tree, split.files[0]))


def plan(
    spec: SourceSpec, split: Split, found_tree: Tree, texts: Collection[str], pinned: Mapping[str, pa.DataType]
) -> Found:
    """The shards of a split that `can_read`.

    Raises:
        SpecError: no such column.
        SourceError: a file cannot be read.
    """
    format_ = FORMATS[split.builder]
    stated_keys = {CSV[name]: value for name, value in split.parameters.items()} if format_ == "csv" else {}
    changes = {key: value for key, value in stated_keys.items() if getattr(spec, key) is None}
    spec = spec.model_copy(update=changes)
    fs = HubFiles()
    files = []
    for path in dict.fromkeys(split.files):
        blob = found_tree.files[path]
        files.append(File(fs, path_of(found_tree, blob), f"{found_tree.url}/{path}", path, blob.id, format_))
    named = dict(split.labels) or _labels_of(files[0])
    topmost = {column_of(path, split.schema.names) for path in named}
    stated = {field.name: field.type for field in split.schema if field.name not in topmost}
    look = functools.partial(_layout, spec=spec, repository=found_tree.repository)
    place = f"{spec.dataset}/{spec.split}"
    found = lake.of_files(files, spec, place, texts, pinned, look, stated)
    wanted = {path: names for path, names in named.items() if column_of(path, found.schema.names) in found.schema.names}
    return Found(found.schema, found.partition_columns, found.shards, found.types, wanted, changes=changes)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a range of one file."""
    yield from lake.rows(HubFiles(), path_of_url(shard.file), spec, shard, schema, batch_rows)


def requests(shards: Sequence[Shard], columns: Sequence[str]) -> int:
    """About how many requests it takes to read shards, if their files were planned on this machine.

    Args:
        shards: of repositories.
        columns: those that are read.
    """
    return sum(_requests(shard, tuple(columns)) for shard in shards)


def _requests(shard: Shard, columns: Sequence[str]) -> int:
    fs, path = HubFiles(), path_of_url(shard.file)
    if fs.is_here(path):
        return 0
    if shard.format != "parquet":
        in_bytes = shard.format in ("csv", "jsonl") and shard.stop
        size = shard.stop - shard.start if in_bytes else fs.size(path)
        return 1 if size <= WHOLE_BYTES else 1 + size // jsonl.BLOCK_BYTES
    metadata = pq.read_metadata(pa.BufferReader(fs.footer(path)))
    return len(merged(parquet.chunks(metadata, range(shard.start, shard.stop), columns)))


def _layout(file: File, spec: SourceSpec, repository: str) -> Layout:
    """The columns and ranges of a file, kept by its blob, so that a night reads only the files that are new."""
    key = f"{layouts.digest(spec, file.format)}-{file.version}"
    if (known := blobs.get(repository, "layout", key)) is not None:
        kept = json.loads(known)
        schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(kept["schema"])))
        return Layout(schema, [tuple(each) for each in kept["ranges"]], kept["about_rows"])
    found = lake.layout(file, spec)
    schema = base64.b64encode(found.schema.serialize()).decode()
    kept = {"schema": schema, "ranges": found.ranges, "about_rows": found.about_rows}
    blobs.put(repository, "layout", key, json.dumps(kept).encode())
    return found


def _labels_of(file: File) -> dict[str, list[str]]:
    """The labels in the metadata that `datasets` writes into Parquet files."""
    if file.format != "parquet":
        return {}
    try:
        metadata: Any = pq.read_metadata(pa.BufferReader(file.fs.footer(file.path))).metadata
        told = json.loads((metadata or {}).get(b"huggingface", b"{}"))
    except (pa.ArrowException, ValueError):
        # A file that is not Parquet is complained about when its layout is read.
        return {}
    return labels.of_features(told.get("info", {}).get("features") or {})


def _has_lines(found_tree: Tree, path: str) -> bool:
    """Whether a JSON file has one object a line; `datasets` reads those of other forms, such as one array."""
    blob = found_tree.files[path]
    if (known := blobs.get(found_tree.repository, "lines", blob.id)) is not None:
        return known == b"yes"
    try:
        jsonl.inspect(HubFiles(), path_of(found_tree, blob), SourceSpec(dataset=found_tree.repository))
        found = True
    except UnreadableSource:
        found = False
    blobs.put(found_tree.repository, "lines", blob.id, b"yes" if found else b"no")
    return found


def _fits(key: str, value: Any) -> bool:
    """Whether a key of the section can have a value."""
    return isinstance(value, str) and (key == "encoding" or (len(value) == 1 and value.isascii()))
