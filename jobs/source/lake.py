"""Files of a lake as a source: a file, folder, glob or URL, or several of them, in any mix of formats.

A format is a module with `inspect` (path -> Layout) and `read` (range -> record batches and bad rows).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import pyarrow as pa
from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from jobs.source import local, type_names, types
from jobs.source.files import File, check_sink, find, partition
from jobs.source.formats import arrow, csv, jsonl, parquet
from jobs.source.kind import Found, check_columns
from jobs.source.layouts import Layouts
from jobs.source.remote import RemoteFile
from jobs.source.shard import BadRow, Layout, Shard
from jobs.source.urls import open_url, reason, shown
from jobs.spec import SourceSpec
from jobs.store.conditional import is_object_store
from transforms.errors import NightscribeError, SourceError, SpecError, UnreadableSource

FORMATS: dict[str, ModuleType] = {"parquet": parquet, "csv": csv, "jsonl": jsonl, "arrow": arrow}


def pin(spec: SourceSpec) -> SourceSpec:
    """The section unchanged, because every file has its own version."""
    return spec


def plan(
    spec: SourceSpec,
    sink: str | None,
    texts: Collection[str],
    pinned: Mapping[str, pa.DataType],
    known: Layouts | None = None,
) -> Found:
    """List the files, read the footers or heads of those that are not known, cut them into shards."""
    assert spec.path is not None
    files = find(spec.path, spec.format)
    if sink is not None:
        check_sink(spec.path, files, sink)
    return of_files(files, spec, str(spec.path), texts, pinned, known=known)


def of_files(
    files: Sequence[File],
    spec: SourceSpec,
    place: str,
    texts: Collection[str],
    pinned: Mapping[str, pa.DataType],
    look: Callable[[File], Layout] | None = None,
    stated: Mapping[str, pa.DataType] | None = None,
    known: Layouts | None = None,
) -> Found:
    """The shards of files, and the columns that they share.

    Args:
        files: in order.
        spec: the section.
        place: what has these files, for messages.
        texts: as for `plan`.
        pinned: as for `plan`.
        look: a file -> its layout; by default it is read.
        stated: column -> type that a description beside the files states.
        known: layouts of files that were read before; those that are read now are added.

    Raises:
        SpecError: a column does not exist, or a key does not apply to these files.
        SourceError: a file cannot be read.
    """
    if (keys := spec.dialect_keys()) and all(file.format != "csv" for file in files):
        raise SpecError(f"source.{keys[0]} applies to CSV files only, and there is none in {place!r}; remove it")
    layouts = _layouts(files, spec, look or (lambda file: layout(file, spec)), known)
    schemas = {id(found.schema): found.schema for found in layouts}
    names = dict.fromkeys(name for schema in schemas.values() for name in schema.names)
    folders = [name for file in files for name in partition(file.key)]
    partition_columns = tuple(name for name in dict.fromkeys(folders) if name not in names)
    check_columns(spec, [*names, *partition_columns], place)
    schema, said = types.unify(files, layouts, type_names.parse(spec.types), pinned, texts, spec.columns, stated or {})
    if spec.columns is not None:
        schema = pa.schema([schema.field(name) for name in spec.columns if name in schema.names])
        partition_columns = tuple(name for name in partition_columns if name in spec.columns)
    shards = [shard for file, found in zip(files, layouts, strict=True) for shard in _shards(file, found)]
    return Found(schema, partition_columns, shards, said)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a range of one file."""
    fs: Any
    fs, path = open_url(shard.file)
    if is_object_store(fs):
        fs = RemoteFile(fs, path, shard.version)
    elif isinstance(fs, LocalFileSystem) and _local_version(path, shard) != shard.version:
        raise SourceError(f"{shard.file} has changed since the run was planned; run again")
    yield from rows(fs, path, spec, shard, schema, batch_rows)


def rows(
    fs: AbstractFileSystem | RemoteFile,
    path: str,
    spec: SourceSpec,
    shard: Shard,
    schema: pa.Schema,
    batch_rows: int,
) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a range of one file, which has been opened.

    Raises:
        SourceError: it cannot be read.
    """
    try:
        yield from FORMATS[shard.format].read(fs, path, shard.start, shard.stop, schema, batch_rows, spec)
    except NightscribeError:
        raise
    except Exception as error:
        # Readers and filesystems raise many kinds of errors: of Arrow, the system, the network or a codec.
        raise _unread(shard, error) from error


def layout(file: File, spec: SourceSpec) -> Layout:
    """The columns and ranges of a file.

    Raises:
        SourceError: it cannot be read.
        UnreadableSource: it cannot be read as it is.
    """
    fs: Any = file.fs
    if is_object_store(fs):
        fs = RemoteFile(fs, file.path, file.version, file.size)
    try:
        found: Layout = FORMATS[file.format].inspect(fs, file.path, spec)
    except NightscribeError:
        raise
    except PermissionError as error:
        raise UnreadableSource(f"{shown(file.url)} cannot be read: {reason(error)}") from error
    except Exception as error:
        raise SourceError(f"{shown(file.url)} is not a readable {file.format} file: {reason(error)}") from error
    names = found.schema.names
    if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
        raise UnreadableSource(f"{shown(file.url)} has two columns {twice[0]!r}; rename one of them")
    return found


def _layouts(
    files: Sequence[File], spec: SourceSpec, look: Callable[[File], Layout], known: Layouts | None
) -> list[Layout]:
    found = [None if known is None else known.get(file, spec) for file in files]
    unknown = [file for file, layout in zip(files, found, strict=True) if layout is None]
    with ThreadPoolExecutor(16) as threads:
        read = list(threads.map(look, unknown))
    if known is not None:
        for file, layout in zip(unknown, read, strict=True):
            known.add(file, spec, layout)
    left = iter(read)
    return [next(left) if layout is None else layout for layout in found]


def _local_version(path: str, shard: Shard) -> str:
    try:
        return local.version(path)
    except OSError as error:
        raise _unread(shard, error) from error


def _unread(shard: Shard, error: Exception) -> SourceError:
    if isinstance(error, FileNotFoundError) and error.errno is not None:
        return SourceError(f"{shown(shard.file)} no longer exists, which it did when the run was planned; run again")
    return SourceError(f"{shown(shard.file)} could not be read as {shard.format}: {reason(error)}")


def _shards(file: File, layout: Layout) -> Iterator[Shard]:
    whole = max(1, sum(stop - start for start, stop, _ in layout.ranges))
    for start, stop, count in layout.ranges:
        about = None
        if layout.about_rows is not None:
            about = round(layout.about_rows * (stop - start) / whole) if stop else layout.about_rows
        yield Shard(file.url, file.key, file.version, file.format, start, stop, count, about_rows=about)
