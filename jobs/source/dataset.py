"""Datasets: on the Hub, or a local folder of one.

The files of a Hub dataset are read by this project where it has a reader for them (`repository`). Other datasets, and
local folders, are streamed through the `datasets` library (`streamed`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import pyarrow as pa

from jobs.hub import tree
from jobs.source import repository, splits
from jobs.source.kind import Found
from jobs.source.layouts import Layouts
from jobs.source.shard import BadRow, Shard
from jobs.spec import SourceSpec
from transforms.errors import SpecError

# Format of the shards that `streamed` reads.
STREAMED = "dataset"


def pin(spec: SourceSpec) -> SourceSpec:
    """The section with the revision pinned to a commit; a local folder has none.

    Raises:
        SpecError: no such dataset.
    """
    if folder(spec) is not None:
        return spec
    assert spec.dataset is not None
    return spec.model_copy(update={"revision": tree.head(spec.dataset, spec.revision)})


def plan(
    spec: SourceSpec,
    sink: str | None,
    texts: Collection[str],
    pinned: Mapping[str, pa.DataType],
    known: Layouts | None = None,
) -> Found:
    """List the shards of the split. Layouts of its files are kept by blob, for all sinks of this machine.

    Raises:
        SpecError: no such configuration, split or column.
        SourceError: a file cannot be read.
    """
    local = folder(spec)
    if local is None:
        assert spec.dataset is not None
        assert spec.revision is not None
        listed = tree.listing(spec.dataset, spec.revision)
        split = splits.find(spec, listed)
        if repository.can_read(split, listed):
            return repository.plan(spec, split, listed, texts, pinned)
    if keys := spec.dialect_keys():
        raise SpecError(f"source.{keys[0]} applies to CSV files of Hub datasets and of source.path; remove it")
    from jobs.source import streamed

    if local is not None:
        return streamed.plan_folder(spec, local, sink)
    return streamed.plan(spec, split, listed)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a shard."""
    if shard.format != STREAMED:
        yield from repository.read(spec, shard, schema, batch_rows)
        return
    from jobs.source import streamed

    yield from streamed.read(spec, shard, schema, batch_rows)


def folder(spec: SourceSpec) -> Path | None:
    """The local folder of a dataset, or None for one on the Hub.

    Raises:
        SpecError: it is a file.
    """
    path = Path(str(spec.dataset)).expanduser()
    if not spec.dataset or path.is_file():
        what = "a file; give it as source.path" if spec.dataset else "empty; give org/name or a folder"
        raise SpecError(f"source.dataset {spec.dataset!r} is {what}")
    return path if path.is_dir() else None
