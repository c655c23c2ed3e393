"""Parquet files, split by row groups."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from jobs.source.formats.cells import checked, plain_schema
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import SourceError, UnreadableSource

# Minimum rows of a shard, unless its file has fewer; smaller part files are too small for a lake.
SHARD_ROWS = 50_000


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Read the footer: the schema, and ranges of row groups; small row groups share a range.

    Raises:
        UnreadableSource: the file is encrypted, or has two columns with the name of a selected one.
    """
    with _opened(fs, path) as (_, file):
        metadata, schema = file.metadata, file.schema_arrow
    return Layout(plain_schema(without_repeated(schema, path, spec)), [*ranges(metadata)] or [(0, 0, 0)])


def ranges(metadata: pq.FileMetaData) -> Iterator[tuple[int, int, int]]:
    """Ranges of row groups with `SHARD_ROWS` rows or more each: (first, one past the last, rows)."""
    start = rows = 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= SHARD_ROWS or group == metadata.num_row_groups - 1:
            yield start, group + 1, rows
            start, rows = group + 1, 0


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Read row groups `[start, stop)`, and only the columns of `schema` that the file has.

    Raises:
        SourceError: a row group is damaged.
    """
    with _opened(fs, path) as (stream, file):
        # Read once: each look at it makes the whole schema, which took seconds for 2,000 columns.
        there = set(file.schema_arrow.names)
        columns = [name for name in schema.names if name in there]
        if hasattr(stream, "prefetch"):
            stream.prefetch(chunks(file.metadata, range(start, stop), columns))
        for first, batch in batches(file, path, range(start, stop), columns, batch_rows):
            yield from checked(batch, schema, first + 1)


def batches(
    file: pq.ParquetFile, path: str, groups: range, columns: Sequence[str], batch_rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of row groups: (number of the first row in the file, from 0; rows).

    Raises:
        SourceError: a row group is damaged.
    """
    first = sum(file.metadata.row_group(group).num_rows for group in range(groups.start))
    found = file.iter_batches(batch_rows, row_groups=list(groups), columns=list(columns))
    while True:
        try:
            batch = next(found, None)
        except (pa.ArrowException, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise _damaged(file, path, groups, columns) from error
        if batch is None:
            return
        yield first, batch
        first += len(batch)


def without_repeated(schema: pa.Schema, path: str, spec: SourceSpec) -> pa.Schema:
    """The columns with a unique name.

    Raises:
        UnreadableSource: the name of a selected column is not unique.
    """
    names = schema.names
    if len(set(names)) == len(names):
        return schema
    repeated = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    for name in repeated:
        if spec.columns is None or name in spec.columns:
            raise UnreadableSource(
                f"{path} has two columns {name!r}; rename one of them, or name the wanted columns in source.columns"
            )
    return pa.schema([field for field in schema if field.name not in repeated])


def chunks(metadata: pq.FileMetaData, groups: Sequence[int], columns: Sequence[str]) -> list[tuple[int, int]]:
    """The bytes of columns in row groups: (first, one past the last) of each chunk."""
    wanted, found = set(columns), []
    for i in groups:
        group = metadata.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            if chunk.path_in_schema.split(".")[0] in wanted or chunk.path_in_schema in wanted:
                starts = [chunk.data_page_offset, chunk.dictionary_page_offset or chunk.data_page_offset]
                found.append((min(starts), min(starts) + chunk.total_compressed_size))
    return found


@contextmanager
def _opened(fs: AbstractFileSystem, path: str) -> Iterator[tuple[Any, pq.ParquetFile]]:
    """Open a file, and read its footer, which some filesystems know already."""
    # What a filesystem has that reads parts of files over a network: see `jobs.hub.files`.
    tail = fs.footer(path) if hasattr(fs, "footer") else None
    with fs.open(path, "rb") if tail is None else fs.open_parts(path) as stream, open_file(stream, path, tail) as file:
        yield stream, file


def open_file(stream: BinaryIO, path: str, tail: bytes | None = None) -> pq.ParquetFile:
    """Open a file, and read its footer.

    Args:
        stream: the file.
        path: its name, for errors.
        tail: the end of the file with the footer, if it is known.

    Raises:
        UnreadableSource: the file is encrypted.
        SourceError: the file is not Parquet, or is truncated.
    """
    try:
        metadata = None if tail is None else pq.read_metadata(pa.BufferReader(tail))
        # INT96 covers years that nanoseconds do not: as nanoseconds, 9999-12-31 would become 1816.
        file = pq.ParquetFile(stream, metadata=metadata, coerce_int96_timestamp_unit="us")
        # Without `read_dictionary` the reader casts dictionaries, and fails if one has bytes that are not UTF-8.
        leaves = [file.schema.column(i) for i in range(len(file.schema))]
        top = {each.name for each in file.schema_arrow if _has_dictionary(each.type)}
        if names := [leaf.path for leaf in leaves if leaf.path.split(".")[0] in top]:
            file = pq.ParquetFile(stream, metadata=metadata, coerce_int96_timestamp_unit="us", read_dictionary=names)
        return file
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        if "encrypt" in str(error) or "decrypt" in str(error):
            raise UnreadableSource(
                f"{path} is an encrypted Parquet file; give a copy that is not encrypted, or "
                f"leave it out with source.path"
            ) from error
        size = stream.seek(0, 2)
        reason = "its footer is damaged or cut off" if size >= 12 else f"it has {size} bytes"
        raise SourceError(
            f"{path} is not a readable parquet file: {reason}; write it again, or leave it out with source.path"
        ) from error


def _has_dictionary(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return True
    return pa.types.is_nested(type_) and any(_has_dictionary(type_.field(i).type) for i in range(type_.num_fields))


def _damaged(file: pq.ParquetFile, path: str, groups: Sequence[int], columns: Sequence[str]) -> SourceError:
    """An error that names the row group and column that cannot be read, found by reading each on its own."""
    before = sum(file.metadata.row_group(group).num_rows for group in range(groups[0]))
    for group in groups:
        rows = file.metadata.row_group(group).num_rows
        for name in columns:
            try:
                file.read_row_group(group, columns=[name])
            except (pa.ArrowException, OSError):
                return SourceError(
                    f"{path} could not be read as parquet: column {name!r} of row group {group} (rows {before + 1} to "
                    f"{before + rows}) is damaged; write the file again, or leave it or the column out of the source"
                )
        before += rows
    return SourceError(f"{path} could not be read as parquet: it was changed or damaged; run again or write it again")
