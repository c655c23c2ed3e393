"""A source: pinned version -> shards -> record batches.

`plan` lists the files (names, versions, footers) and returns a Source and Shards; `read` returns the rows of a Shard.
`kind` decides which kind of source it is (files, a dataset); the code here is the same for all kinds.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from jobs.source import kind, labels, prepare, rows, types
from jobs.source.files import partition
from jobs.source.formats import cells
from jobs.source.layouts import Layouts
from jobs.source.shard import BadRow, Shard
from jobs.source.where import Where
from jobs.spec import SourceSpec
from transforms.errors import SourceError, SpecError

__all__ = ["BadRow", "Shard", "Source", "count", "plan", "read"]

# Keys of the section that do not change the rows of a file at one version: the location of the files or the dataset,
# and which rows are read (each shard records its own range). All other keys, including future ones, are part of it.
NOT_IDENTITY = {"path", "table", "version", "timestamp", "dataset", "revision", "data_files", "limit"}

# Increased whenever a new version reads other rows from the same files.
VERSION = 1

# A larger batch is cut, even if it has few rows: 1,024 texts of 50,000 characters are 50 MB.
MAX_BATCH_BYTES = 16 << 20

# Rows that `prepare` is tried on while planning.
FIRST_ROWS = 64

# The unit of `Shard.start`, by format.
UNITS = {
    "parquet": "row group",
    "arrow": "record batch",
    "csv": "byte",
    "jsonl": "byte",
    "table": "row group",
    "dataset": "dataset shard",
}


@dataclass(frozen=True)
class Source:
    """The properties that all shards of a source share; part of the plan.

    Attributes:
        spec: the job file's section, with a dataset's revision pinned, and with the types that CSV files
            are read with because other files declare them, and the labels that a dataset names.
        file_schema: columns read from the files, in order, types unified over all files.
        partition_columns: Hive columns (string) that only folder names have; `where`, `prepare` and tasks see them.
        schema: columns that the tasks get, after prepare.
        prepare_version: hash of the module that `prepare` names, or None.
        divided_by: columns by which the files are divided: those of folders, or partition columns of a table.
        pruned: files of a table that `where` rules out by what the table's log says of them.
    """

    spec: SourceSpec
    file_schema: pa.Schema
    partition_columns: tuple[str, ...]
    schema: pa.Schema
    prepare_version: str | None = None
    divided_by: tuple[str, ...] = ()
    pruned: int = 0

    @property
    def identity(self) -> dict[str, Any]:
        """Plain JSON of all that can change the rows of a file at one version: `where`, `prepare`, types, dialect.

        A key at its default is left out, so that a new key in a later version does not change existing identities.
        `columns` is part of it only with `prepare`, because only that function can make rows depend on it.
        """
        found = self.spec.model_dump(mode="json", exclude=NOT_IDENTITY, exclude_defaults=True)
        if not self.spec.prepare:
            found.pop("columns", None)
        return found | {"version": VERSION, "prepare_version": self.prepare_version}

    def to_json(self) -> dict[str, object]:
        """Plain JSON; schemas as base64 of their Arrow IPC form."""
        return {
            "spec": self.spec.model_dump(exclude_unset=True),
            "file_schema": base64.b64encode(self.file_schema.serialize()).decode(),
            "partition_columns": list(self.partition_columns),
            "schema": base64.b64encode(self.schema.serialize()).decode(),
            "prepare_version": self.prepare_version,
            "divided_by": list(self.divided_by),
            "pruned": self.pruned,
        }

    @classmethod
    def from_json(cls, data: dict[str, object]) -> Source:
        """The inverse of `to_json`."""
        file_schema, schema = (
            pa.ipc.read_schema(pa.py_buffer(base64.b64decode(str(data[key])))) for key in ("file_schema", "schema")
        )
        columns: Any = data["partition_columns"]
        version: Any = data["prepare_version"]
        divided_by: Any = data["divided_by"]
        pruned: Any = data["pruned"]
        spec = SourceSpec.model_validate(data["spec"])
        return cls(spec, file_schema, tuple(columns), schema, version, tuple(divided_by), pruned)


def plan(
    spec: SourceSpec,
    outside: str | None = None,
    texts: Collection[str] = (),
    pinned: Mapping[str, pa.DataType] | None = None,
    known: Layouts | None = None,
) -> tuple[Source, list[Shard]]:
    """Find the shards of a source and the schema that all of them share.

    Args:
        spec: the job file's section.
        outside: URL of the folder that the job writes to; it must not contain files of the source, nor lie among them.
        texts: columns, or `struct.field`s, that tasks read as text: they are strings if a file leaves their type open.
        pinned: column -> type in an earlier plan of the job, for columns whose type the files leave open.
        known: layouts of files that were read before.

    Raises:
        SpecError: a path, column, type, condition or function does not exist.
        SourceError: a file cannot be read.
    """
    module = kind.of(spec)
    spec = module.pin(spec)
    found = module.plan(spec, outside, texts, pinned or {}, known)
    changes = dict(found.changes)
    if found.types:
        changes["types"] = {name: str(type_) for name, type_ in found.types.items()}
    if found.labels:
        changes["labels"] = dict(found.labels) | (spec.labels or {})
    spec = spec.model_copy(update=changes)
    labels.check(spec.labels or {}, found.schema)
    version = None if spec.prepare is None else prepare.version(spec.prepare)
    pruned = len({shard.key for shard in found.shards if shard.pruned})
    divided_by = found.partition_columns or found.divided_by
    source = Source(spec, found.schema, found.partition_columns, found.schema, version, divided_by, pruned)
    return replace(source, schema=types.as_tasks_see(_tried(source, found.shards))), found.shards


def read(
    source: Source, shard: Shard, batch_rows: int, seen: Callable[[int], None] | None = None
) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a shard after where, prepare and limit, in batches of `batch_rows`; bad rows in between.

    Args:
        source: the source, planned.
        shard: one of its shards.
        batch_rows: rows of a batch.
        seen: called with the number of rows of each batch of the file, before where and prepare.

    Raises:
        SourceError: the file is truncated, no longer exists, or changed since it was planned; `prepare` failed.
    """
    bad: list[BadRow] = []
    left = shard.limit
    for batch in rows.even(_prepared(source, shard, batch_rows, bad, seen), batch_rows, MAX_BATCH_BYTES):
        yield from bad
        bad.clear()
        if left is None:
            yield batch
            continue
        yield batch.slice(0, left)
        left -= min(left, len(batch))
        if not left:
            return
    yield from bad


def count(source: Source, shard: Shard, enough: int) -> int:
    """Number of rows of a shard, at most `enough`; if it is unknown, rows are read and counted up to that number."""
    if shard.rows is not None and not source.spec.where and not source.spec.prepare:
        return min(shard.rows, enough)
    total = 0
    for item in read(source, shard, 16_384):
        total += len(item) if isinstance(item, pa.RecordBatch) else 0
        if total >= enough:
            return enough
    return total


def _prepared(
    source: Source, shard: Shard, batch_rows: int, bad: list[BadRow], seen: Callable[[int], None] | None = None
) -> Iterator[pa.RecordBatch]:
    """Batches of the columns that tasks get; rows that cannot be read are added to `bad`."""
    reference = source.spec.prepare
    if not reference:
        yield from (batch for _, batch in _selected(source, shard, batch_rows, bad, seen))
        return
    function = prepare.load(reference)
    for place, batch in _selected(source, shard, batch_rows, bad, seen):
        if len(batch):
            found = prepare.apply(function, batch, reference, place, SourceError)
            found = prepare.conform(found, source.schema, reference, place)
            # A function may cut a text in the middle of a character: that row alone is rejected.
            for item in cells.checked(found, source.schema, None):
                if isinstance(item, BadRow):
                    bad.append(item)
                else:
                    yield item


def _selected(
    source: Source,
    shard: Shard,
    batch_rows: int,
    bad: list[BadRow],
    watch: Callable[[int], None] | None = None,
) -> Iterator[tuple[str, pa.RecordBatch]]:
    """The rows of the files, with partition columns, after `where`: (description of the rows, batch)."""
    folders = partition(shard.key)
    seen, unread = 0, False
    with Where(source.spec.where, _columns(source)) if source.spec.where is not None else nullcontext() as where:
        for item in _read(source, shard, batch_rows):
            if isinstance(item, BadRow):
                bad.append(_with_folders(item, source, folders))
                unread = True
                continue
            batch = item
            for name in source.partition_columns:
                batch = batch.append_column(name, pa.repeat(pa.scalar(folders.get(name), pa.string()), len(batch)))
            place = _place(shard, seen, len(batch))
            if where is not None:
                whole, (batch, failed) = batch, where.filter(batch)
                # Records are counted from the start of the file; after a bad row their numbers are not known here.
                first = None if shard.start or unread else seen + 1
                bad += [_unmet(whole, row, message, first) for row, message in failed]
            seen += len(item)
            if watch is not None:
                watch(len(item))
            yield place, batch


def _read(source: Source, shard: Shard, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a file as they are planned, with the names of labels instead of their numbers."""
    named = source.spec.labels or {}
    for item in kind.of(source.spec).read(source.spec, shard, source.file_schema, batch_rows):
        if isinstance(item, BadRow):
            yield labels.named_bad(item, named) if named else item
            continue
        batch = rows.conform(item, source.file_schema, shard.file)
        yield from labels.named(batch, named) if named else [batch]


def _tried(source: Source, shards: list[Shard]) -> pa.Schema:
    """The columns that tasks get: `where` is checked on the columns, `prepare` is tried on the first rows.

    Raises:
        SpecError: either does not fit the source.
    """
    columns = _columns(source)
    if source.spec.where is not None:
        place = "the source" if source.spec.columns is None else "source.columns"
        with Where(source.spec.where, columns, place=place) as where:
            where.check()
    if not (reference := source.spec.prepare):
        return columns
    batches = (item for shard in shards for item in _selected(source, shard, FIRST_ROWS, []) if len(item[1]))
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in columns], schema=columns)
    place, first = next(batches, ("a batch without rows", empty))
    prepared = prepare.apply(prepare.load(reference), first, reference, place, SpecError)
    # As the columns of files: no string views, which Parquet cannot be written from.
    return cells.plain_schema(prepared.schema)


def _columns(source: Source) -> pa.Schema:
    """The columns that `where` and `prepare` see: those of the files, then those of the folders."""
    columns = labels.named_schema(source.file_schema, source.spec.labels or {})
    return pa.schema([*columns, *(pa.field(name, pa.string()) for name in source.partition_columns)])


def _with_folders(row: BadRow, source: Source, folders: Mapping[str, str | None]) -> BadRow:
    """The bad row with the columns that its folders have."""
    values = {} if row.values is None else dict(zip(row.values.schema.names, row.values.columns, strict=True))
    values |= {name: pa.array([folders.get(name)], pa.string()) for name in source.partition_columns}
    return replace(row, values=pa.record_batch(values) if values else None)


def _unmet(batch: pa.RecordBatch, row: int, message: str, first: int | None) -> BadRow:
    """A row that `where` cannot be computed for."""
    number = None if first is None else first + row
    return BadRow("ConditionError", message, row=number, values=batch.slice(row, 1))


def _place(shard: Shard, seen: int, count: int) -> str:
    """The rows of a batch, described for messages."""
    start = f" from {UNITS[shard.format]} {shard.start}" if shard.start else ""
    return f"rows {seen + 1} to {seen + count} of {shard.file}{start}"
