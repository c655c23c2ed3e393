"""A table of a lake as a source: Delta Lake or Iceberg, at one version, by its data files.

A shard is a data file, or row groups of a large one. Its version has the table's id and its deleted rows: a data file
never changes, but its rows can be deleted, and a table can be dropped and made anew with files of the same names.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import lru_cache
from typing import cast

import pyarrow as pa
from fsspec.implementations.local import LocalFileSystem

from jobs.source import labels, pruning, types
from jobs.source.formats import parquet
from jobs.source.formats.cells import checked
from jobs.source.kind import Found, check_columns
from jobs.source.layouts import Layouts
from jobs.source.shard import TABLE, BadRow, Shard
from jobs.source.urls import open_url, reason, shown
from jobs.spec import SourceSpec
from jobs.table import DataFile, Snapshot, Table, open_table, rows
from transforms.errors import NightscribeError, SourceError, SpecError, UnreadableSource

KEY = "source.table"

# Data files whose footers are read concurrently.
THREADS = 16


def pin(spec: SourceSpec) -> SourceSpec:
    """The section with the version that is the newest now, or was at `source.timestamp`."""
    version = open_table(str(spec.table), KEY).version(spec.version, spec.timestamp)
    if version is None:
        raise SpecError(f"source.table {spec.table!r} does not exist; correct the name, or create the table")
    return spec.model_copy(update={"version": version, "timestamp": None})


def plan(
    spec: SourceSpec,
    sink: str | None,
    texts: Collection[str],
    pinned: Mapping[str, pa.DataType],
    known: Layouts | None = None,
) -> Found:
    """List the data files of the snapshot; footers are read only of those that are cut into several shards."""
    _known.cache_clear()
    snapshot, _ = _known(str(spec.table), spec.version)
    if sink is not None:
        _check_place(str(spec.table), snapshot.location, sink)
    check_columns(spec, snapshot.schema.names, str(spec.table))
    schema = types.with_types(snapshot.schema, spec)
    if spec.columns is not None:
        schema = pa.schema([schema.field(name) for name in spec.columns])
    gone = frozenset[str]()
    if spec.where is not None:
        seen = labels.named_schema(schema, spec.labels or {})
        gone = pruning.ruled_out(spec.where, seen, snapshot.schema, snapshot.files)
    table = open_table(str(spec.table), KEY)
    with ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda file: _shards(table, file, snapshot, file.key in gone), snapshot.files)
        shards = [shard for several in found for shard in several]
    divided_by = tuple(name for name in snapshot.partition_columns if name in schema.names)
    return Found(schema, (), shards, divided_by=divided_by)


def read(spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows of a data file, or of some of its row groups, without the deleted ones."""
    if shard.pruned:
        return
    file, snapshot = _found(spec, shard)
    known = {column.field.name: column for column in snapshot.columns}
    if missing := [name for name in schema.names if name not in known]:
        raise SourceError(f"{spec.table} has lost the column {missing[0]!r} since the run was planned; run again")
    columns = [known[name] for name in schema.names]
    groups = (shard.start, shard.stop)
    try:
        with open_table(str(spec.table), KEY).open(file) as stream:
            for first, batch in rows.read(
                stream, shard.file, groups, columns, file.deleted, snapshot.ids, file.partition, batch_rows
            ):
                yield from checked(batch, schema, None if first is None else first + 1)
    except NightscribeError:
        raise
    except FileNotFoundError as error:
        raise _cleaned_up(shard.file, snapshot) from error
    except Exception as error:
        # Readers and filesystems raise many kinds of errors: of Arrow, the system, the network or a codec.
        raise SourceError(f"{shown(shard.file)} could not be read: {reason(error)}") from error


def compacted(spec: SourceSpec, keys: Collection[str]) -> set[str]:
    """Of some data files, those that a compaction wrote: files with rows that the table had before."""
    _, files = _known(str(spec.table), spec.version)
    named = {files[key].name: key for key in keys if key in files}
    found = open_table(str(spec.table), KEY).compacted(cast(int, spec.version), named.keys())
    return {named[name] for name in found}


def _shards(table: Table, file: DataFile, snapshot: Snapshot, pruned: bool) -> list[Shard]:
    version = _version(file, snapshot)
    whole = Shard(file.url, file.key, version, TABLE, 0, 0, file.rows, pruned=pruned)
    if pruned or (file.rows is not None and file.rows + len(file.deleted) <= parquet.SHARD_ROWS):
        return [whole]
    try:
        with table.open(file) as stream:
            ranges = rows.ranges(stream, shown(file.url), file.deleted)
    except FileNotFoundError as error:
        raise _cleaned_up(file.url, snapshot) from error
    except OSError as error:
        raise SourceError(f"{shown(file.url)} could not be read: {reason(error)}") from error
    return [replace(whole, start=start, stop=stop, rows=count) for start, stop, count in ranges]


def _version(file: DataFile, snapshot: Snapshot) -> str:
    return "+".join(filter(None, [snapshot.id, snapshot.renamed, file.deletes]))


def _found(spec: SourceSpec, shard: Shard) -> tuple[DataFile, Snapshot]:
    """The data file of a shard.

    Raises:
        SourceError: the table was made anew since the run was planned, or its columns were renamed.
    """
    for _ in range(2):
        snapshot, files = _known(str(spec.table), spec.version)
        file = files.get(shard.key)
        if file is not None and _version(file, snapshot) == shard.version:
            return file, snapshot
        # Another table may have had this name when the snapshot was read.
        _known.cache_clear()
    raise SourceError(f"{spec.table} has changed since the run was planned; run again")


@lru_cache(maxsize=2)
def _known(url: str, version: int | None) -> tuple[Snapshot, Mapping[str, DataFile]]:
    """A snapshot, which is read once a process, and its files by key."""
    found = open_table(url, KEY).snapshot(version)
    if found is None:
        raise SourceError(f"{url} no longer exists; create it again, or correct source.table")
    files = {file.key: file for file in found.files}
    if len(files) < len(found.files):
        keys = [file.key for file in found.files]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise UnreadableSource(f"{url} has the data file {twice!r} twice; remove one of its entries from the table")
    return found, files


def _check_place(url: str, location: str, sink: str) -> None:
    """Refuse a job that writes into the table that it reads, or around it.

    Raises:
        SpecError: the two folders lie in each other.
    """
    (table_fs, table), (sink_fs, folder) = open_url(location), open_url(sink)
    if type(table_fs) is not type(sink_fs):
        return
    if isinstance(table_fs, LocalFileSystem):
        table, folder = os.path.realpath(table), os.path.realpath(folder)
    inside, around = f"{table.rstrip('/')}/", f"{folder.rstrip('/')}/"
    if inside.startswith(around) or around.startswith(inside):
        raise SpecError(
            f"sink.path {shown(sink)!r} and source.table {url!r} at {shown(location)!r} lie in each other, and a job "
            f"cannot read what it writes; point the sink to a folder or table beside the source"
        )


def _cleaned_up(file: str, snapshot: Snapshot) -> SourceError:
    return SourceError(
        f"{shown(file)} no longer exists, so version {snapshot.version} of the table at {shown(snapshot.location)} "
        f"cannot be read: a clean-up (VACUUM, expired snapshots) has deleted it; run again with a newer version"
    )
