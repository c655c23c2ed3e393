"""A source: pinned version -> shards -> record batches.

`plan` looks at the files (names, versions, footers) and gives a Source and its Shards; `read` gives a Shard's rows.
A format is a module with `inspect` (path -> Layout) and `read` (range -> record batches and bad rows).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import fsspec
import pyarrow as pa

from jobs.source import rows
from jobs.source.files import File, find, partition
from jobs.source.formats import arrow, csv, jsonl, parquet
from jobs.source.shard import BadRow, Layout, Shard
from jobs.spec import SourceSpec
from transforms.errors import SourceError, SpecError

__all__ = ["BadRow", "Shard", "Source", "count", "plan", "read"]

FORMATS: dict[str, ModuleType] = {"parquet": parquet, "csv": csv, "jsonl": jsonl, "arrow": arrow}

# Types that a format's reader only guesses: all those of a CSV; what a JSON string looks like, and what is always null.
GUESSES: dict[str, Callable[[pa.DataType], bool]] = {
    "csv": lambda type_: True,
    "jsonl": lambda type_: pa.types.is_timestamp(type_) or pa.types.is_null(type_),
}

# A batch past this is cut, however few its rows: 1,024 texts of 50,000 characters are 50 MB.
MAX_BATCH_BYTES = 16 << 20


@dataclass(frozen=True)
class Source:
    """What every shard of a source has in common; part of the plan.

    Attributes:
        spec: the job file's section, with a dataset's revision pinned.
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


def plan(spec: SourceSpec, outside: str | None = None, texts: Collection[str] = ()) -> tuple[Source, list[Shard]]:
    """Find the shards of a source and the schema that all of them share.

    Args:
        spec: the job file's section.
        outside: URL of a folder whose files do not count (the sink, where it lies inside the source).
        texts: columns, or `struct.field`s, that tasks read as text: strings, where a file leaves their type open.

    Raises:
        SpecError: a path, column, condition or function that is not there.
        SourceError: a file that cannot be read.
    """
    if spec.dataset is not None:
        # Imported where it is needed: the datasets library takes most of a second to start.
        from jobs.source import dataset

        spec, file_schema, shards = dataset.plan(spec)
        partition_columns: tuple[str, ...] = ()
    else:
        file_schema, partition_columns, shards = _plan_files(spec, outside, texts)
    source = Source(spec, file_schema, partition_columns, file_schema)
    first = _first_batch(source, shards)
    return replace(source, schema=first.schema), shards


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


def _plan_files(
    spec: SourceSpec, outside: str | None, texts: Collection[str]
) -> tuple[pa.Schema, tuple[str, ...], list[Shard]]:
    assert spec.path is not None
    fs, files = find(spec.path, spec.format)
    if outside is not None:
        below = fsspec.core.url_to_fs(outside)[1].rstrip("/") + "/"
        files = [file for file in files if not file.path.startswith(below)]
    if not files:
        raise SpecError(f"source.path {spec.path!r} holds no file but the sink's own; point sink.path elsewhere")
    with ThreadPoolExecutor(16) as threads:
        layouts = list(threads.map(lambda file: _inspect(fs, file, texts), files))
    whole = _unify(files, layouts)
    folders = [name for file in files for name in partition(file.key)]
    partition_columns = tuple(name for name in dict.fromkeys(folders) if name not in whole.names)
    known = [*whole.names, *partition_columns]
    if missing := [name for name in spec.columns or () if name not in known]:
        raise SpecError(f"source.columns: {missing[0]!r} is not in {spec.path}; columns: {', '.join(known)}")
    if spec.columns is not None:
        whole = pa.schema([whole.field(name) for name in spec.columns if name in whole.names])
        partition_columns = tuple(name for name in partition_columns if name in spec.columns)
    shards = [shard for file, layout in zip(files, layouts, strict=True) for shard in _shards(file, layout)]
    return whole, partition_columns, shards


def _shards(file: File, layout: Layout) -> Iterator[Shard]:
    whole = max(1, sum(stop - start for start, stop, _ in layout.ranges))
    for start, stop, count_ in layout.ranges:
        about = None
        if layout.about_rows is not None:
            about = round(layout.about_rows * (stop - start) / whole) if stop else layout.about_rows
        yield Shard(file.url, file.key, file.version, file.format, start, stop, count_, about_rows=about)


def _inspect(fs: fsspec.AbstractFileSystem, file: File, texts: Collection[str]) -> Layout:
    try:
        layout: Layout = FORMATS[file.format].inspect(fs, file.path)
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(f"{file.url} is not a readable {file.format} file: {error}") from error
    if (is_guess := GUESSES.get(file.format)) is None:
        return layout
    return replace(layout, schema=pa.schema([_as_text(field, field.name, texts, is_guess) for field in layout.schema]))


def _as_text(field: pa.Field, path: str, texts: Collection[str], is_guess: Callable[[pa.DataType], bool]) -> pa.Field:
    """The field as a string where it is read as text and its type was a guess; fields of structs likewise."""
    if path in texts and is_guess(field.type):
        return field.with_type(pa.string())
    if pa.types.is_struct(field.type):
        return field.with_type(pa.struct([_as_text(f, f"{path}.{f.name}", texts, is_guess) for f in field.type]))
    return field


def _unify(files: list[File], layouts: list[Layout]) -> pa.Schema:
    """One schema for all files: columns in the order first seen, types widened where that loses nothing."""
    whole = layouts[0].schema
    # Types of a CSV are guesses: where two files guess apart, the column is text.
    guessed = all(file.format == "csv" for file in files)
    for file, layout in zip(files, layouts, strict=True):
        found = layout.schema
        for field in found if guessed else ():
            i = whole.get_field_index(field.name)
            if i >= 0 and not _unifies(whole.field(i), field):
                whole = whole.set(i, pa.field(field.name, pa.string()))
                found = found.set(found.get_field_index(field.name), whole.field(i))
        try:
            whole = pa.unify_schemas([whole, found], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise SourceError(f"{file.url} does not fit the files before it: {error}") from error
    return pa.schema([field.with_nullable(True) for field in whole])


def _unifies(one: pa.Field, other: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True


def _raw(source: Source, shard: Shard, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """What the format gives, any failure named after the file."""
    selected = source.spec.columns is not None
    try:
        if shard.format == "dataset":
            from jobs.source import dataset

            yield from dataset.read(source.spec, shard, source.file_schema, batch_rows)
            return
        fs, path = fsspec.core.url_to_fs(shard.file)
        yield from FORMATS[shard.format].read(
            fs, path, shard.start, shard.stop, source.file_schema, batch_rows, selected
        )
    except (pa.ArrowException, OSError, EOFError) as error:
        raise SourceError(f"{shard.file} could not be read as {shard.format}: {error}") from error


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
