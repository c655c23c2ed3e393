"""A source: pinned version -> shards -> record batches.

`plan` looks at what is there (names, versions, footers) and gives a Source and its Shards; `read` gives a Shard's rows.
What kind of source it is (files, a dataset) is decided in `kind`; what follows here is the same for all kinds.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from jobs.source import kind, rows
from jobs.source.files import partition
from jobs.source.shard import BadRow, Shard
from jobs.spec import SourceSpec

__all__ = ["BadRow", "Shard", "Source", "count", "plan", "read"]

# A batch past this is cut, however few its rows: 1,024 texts of 50,000 characters are 50 MB.
MAX_BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Source:
    """What every shard of a source has in common; part of the plan.

    Attributes:
        spec: the job file's section, with a dataset's revision pinned, and with the types that CSV files
            are read with because other files declare them.
        file_schema: columns read from the files, in order, types unified over all files.
        partition_columns: Hive columns (string) that only the folders have; `where`, `prepare` and tasks see them.
        schema: columns that the tasks get, after prepare.
    """

    spec: SourceSpec
    file_schema: pa.Schema
    partition_columns: tuple[str, ...]
    schema: pa.Schema

    def to_json(self) -> dict[str, object]:
        """Plain JSON; schemas as base64 of their Arrow IPC form."""
        return {
            "spec": self.spec.model_dump(exclude_unset=True),
            "file_schema": base64.b64encode(self.file_schema.serialize()).decode(),
            "partition_columns": list(self.partition_columns),
            "schema": base64.b64encode(self.schema.serialize()).decode(),
        }

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Source:
        """The inverse of `to_json`."""
        file_schema, schema = (
            pa.ipc.read_schema(pa.py_buffer(base64.b64decode(str(data[key])))) for key in ("file_schema", "schema")
        )
        columns: Any = data["partition_columns"]
        return cls(SourceSpec.model_validate(data["spec"]), file_schema, tuple(columns), schema)


def plan(
    spec: SourceSpec,
    outside: str | None = None,
    texts: Collection[str] = (),
    pinned: Mapping[str, pa.DataType] | None = None,
) -> tuple[Source, list[Shard]]:
    """Find the shards of a source and the schema that all of them share.

    Args:
        spec: the job file's section.
        outside: URL of a folder whose files do not count (the sink, where it lies inside the source).
        texts: columns, or `struct.field`s, that tasks read as text: strings, where a file leaves their type open.
        pinned: column -> type in an earlier plan of the job, for columns whose type the files leave open.

    Raises:
        SpecError: a path, column, type, condition or function that is not there.
        SourceError: a file that cannot be read.
    """
    module = kind.of(spec)
    spec = module.pin(spec)
    found = module.plan(spec, outside, texts, pinned or {})
    if found.types:
        spec = spec.model_copy(update={"types": {name: str(type_) for name, type_ in found.types.items()}})
    source = Source(spec, found.schema, found.partition_columns, found.schema)
    first = _first_batch(source, found.shards)
    return replace(source, schema=first.schema), found.shards


def read(source: Source, shard: Shard, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a shard after where, prepare and limit, in batches of `batch_rows`; bad rows where they turn up.

    Raises:
        SourceError: the file is truncated, vanished, or changed since it was planned.
    """
    bad: list[BadRow] = []
    left = shard.limit
    batches = _good(_raw(source, shard, batch_rows), bad)
    for batch in rows.even(_filtered(source, shard, batches), batch_rows, MAX_BATCH_BYTES):
        yield from (_with_partition(source, shard, row) for row in bad)
        bad.clear()
        if left is None:
            yield batch
            continue
        yield batch.slice(0, left)
        left -= min(left, len(batch))
        if not left:
            return
    yield from (_with_partition(source, shard, row) for row in bad)


def count(source: Source, shard: Shard, enough: int) -> int:
    """Rows that a shard gives, counted by reading no further than `enough`; known ones are not read."""
    if shard.rows is not None and not source.spec.where and not source.spec.prepare:
        return min(shard.rows, enough)
    total = 0
    for item in read(source, shard, 16_384):
        total += len(item) if isinstance(item, pa.RecordBatch) else 0
        if total >= enough:
            return enough
    return total


def _raw(source: Source, shard: Shard, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    return kind.of(source.spec).read(source.spec, shard, source.file_schema, batch_rows)


def _good(items: Iterator[pa.RecordBatch | BadRow], bad: list[BadRow]) -> Iterator[pa.RecordBatch]:
    for item in items:
        if isinstance(item, BadRow):
            bad.append(item)
        else:
            yield item


def _with_partition(source: Source, shard: Shard, row: BadRow) -> BadRow:
    """The bad row with the columns that its folders have."""
    values = {} if row.values is None else dict(zip(row.values.schema.names, row.values.columns, strict=True))
    folders = partition(shard.key)
    values |= {name: pa.array([folders.get(name)], pa.string()) for name in source.partition_columns}
    return replace(row, values=pa.record_batch(values) if values else None)


def _filtered(source: Source, shard: Shard, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Schema, partition columns, where and prepare."""
    spec = source.spec
    values = partition(shard.key)
    prepare = rows.load_prepare(spec.prepare) if spec.prepare else None
    with rows.Where(spec.where) if spec.where else nullcontext() as where:
        for raw in batches:
            batch = rows.conform(raw, source.file_schema, shard.file)
            for name in source.partition_columns:
                batch = batch.append_column(name, pa.array([values.get(name)] * len(batch), pa.string()))
            if where is not None:
                batch = where.filter(batch)
            if prepare is not None and spec.prepare:
                batch = rows.prepared(batch, prepare, spec.prepare)
                if source.schema is not source.file_schema:
                    batch = rows.conform(batch, source.schema, f"source.prepare {spec.prepare!r}")
            yield batch


def _first_batch(source: Source, shards: list[Shard]) -> pa.RecordBatch:
    """A few real rows through where and prepare: shows the schema that tasks get, and what is wrong with either."""
    columns = [pa.nulls(0, field.type) for field in source.file_schema]
    empty = pa.RecordBatch.from_arrays(columns, schema=source.file_schema)
    if not source.spec.prepare:
        return next(_filtered(source, shards[0], iter([empty])))
    for shard in shards:
        for batch in _filtered(source, shard, _good(_raw(source, shard, 64), [])):
            if len(batch):
                return batch
    return next(_filtered(source, shards[0], iter([empty])))
