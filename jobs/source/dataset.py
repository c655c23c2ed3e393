"""Datasets of the Hub, or local dataset folders, streamed through the `datasets` client.

One shard is one shard of the streamed dataset (for most datasets one data file); its version is the pinned commit, or
for a local folder the sizes and modification times of its files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import datasets
import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem
from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx

from jobs.source import types
from jobs.source.formats.cells import checked, plain_schema
from jobs.source.kind import Found, check_columns
from jobs.source.shard import BadRow, Shard
from jobs.source.urls import open_url, reason, shown
from jobs.spec import SourceSpec
from transforms.errors import SourceError, SpecError


def pin(spec: SourceSpec) -> SourceSpec:
    """The section with the revision pinned to a commit; a local folder has none.

    Raises:
        SpecError: no such dataset.
    """
    return spec if _folder(spec) is not None else spec.model_copy(update={"revision": _commit(spec)})


def plan(spec: SourceSpec, sink: str | None, texts: Collection[str], pinned: Mapping[str, pa.DataType]) -> Found:
    """List the shards of the streamed split.

    Raises:
        SpecError: no such configuration, split or column.
    """
    assert spec.dataset is not None
    folder = _folder(spec)
    if folder is not None and sink is not None:
        _check_sink(folder, sink)
    version = _folder_version(folder) if folder is not None else str(spec.revision)
    try:
        stream = _open(spec)
        features = stream.features or stream._resolve_features().features
    except SpecError:
        raise
    except Exception as error:
        # The library raises its own errors, and those of its readers and of the network.
        raise SpecError(f"source.dataset {spec.dataset!r} cannot be opened: {reason(error)}") from error
    if features is None:
        raise SpecError(f"source.dataset {spec.dataset!r} has no rows; give another dataset or split")
    schema = plain_schema(features.arrow_schema)
    check_columns(spec, schema.names, f"{spec.dataset}/{spec.split}")
    if spec.columns is not None:
        schema = pa.schema([schema.field(name) for name in spec.columns])
    schema = types.with_types(schema, spec)
    key = f"{spec.config or 'default'}/{spec.split}/{spec.dataset.rstrip('/').rsplit('/', 1)[-1]}"
    shards = [Shard(spec.dataset, key, version, "dataset", i, i + 1) for i in range(stream.num_shards)]
    return Found(schema, (), shards)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """Stream one shard of the dataset as record batches."""
    try:
        stream = _open(spec)
        part = stream.shard(stream.num_shards, shard.start)
        if spec.columns is not None:
            part = part.select_columns(spec.columns)
        for table in part.with_format("arrow").iter(batch_rows):
            for batch in table.to_batches():
                yield from checked(batch, schema, None)
    except Exception as error:
        raise SourceError(
            f"dataset {shard.file}, split {spec.split!r}, shard {shard.start} could not be read: {reason(error)}"
        ) from error


def _folder(spec: SourceSpec) -> Path | None:
    """The local folder of a dataset, or None for one on the Hub."""
    folder = Path(str(spec.dataset)).expanduser()
    if not spec.dataset or folder.is_file():
        what = "a file; give it as source.path" if spec.dataset else "empty; give org/name or a folder"
        raise SpecError(f"source.dataset {spec.dataset!r} is {what}")
    return folder if folder.is_dir() else None


def _check_sink(folder: Path, sink: str) -> None:
    """Refuse a job that would read what it writes.

    Raises:
        SpecError: the sink lies in the folder of the dataset, or the folder in the sink.
    """
    fs, path = open_url(sink)
    if not isinstance(fs, LocalFileSystem):
        return
    inner, outer = Path(path).resolve(), folder.resolve()
    if inner.is_relative_to(outer) or outer.is_relative_to(inner):
        raise SpecError(
            f"sink.path {shown(sink)!r} and source.dataset {str(folder)!r} lie inside each other, so the next run "
            f"would read what this one wrote; point sink.path to a folder beside the dataset"
        )


def _open(spec: SourceSpec) -> datasets.IterableDataset:
    """The streamed split, for each way in which a folder or repository can be written."""
    assert spec.dataset is not None
    folder = _folder(spec)
    if folder is not None and _saved_by_datasets(folder):
        saved = datasets.load_from_disk(str(folder))
        if isinstance(saved, datasets.DatasetDict):
            if spec.split not in saved:
                raise SpecError(f"source.split is {spec.split!r}; splits of {spec.dataset}: {', '.join(saved)}")
            saved = saved[spec.split]
        return saved.to_iterable_dataset(num_shards=max(1, len(saved.cache_files)))
    name = spec.dataset if folder is None else str(folder)
    return datasets.load_dataset(name, spec.config, split=spec.split, revision=spec.revision, streaming=True)


def _saved_by_datasets(folder: Path) -> bool:
    return (folder / "dataset_dict.json").exists() or (folder / "state.json").exists()


def _commit(spec: SourceSpec) -> str:
    try:
        return str(HfApi().dataset_info(str(spec.dataset), revision=spec.revision).sha)
    except (HfHubHTTPError, OfflineModeIsEnabled, httpx.HTTPError, ValueError) as error:
        raise SpecError(
            f"source.dataset {spec.dataset!r} is not a folder here, and the Hub does not have it: {reason(error)}"
        ) from error


def _folder_version(folder: Path) -> str:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    stats = [f"{file.relative_to(folder)} {file.stat().st_size} {file.stat().st_mtime_ns}" for file in files]
    return hashlib.blake2b("\n".join(stats).encode(), digest_size=12).hexdigest()
