"""Find the rows of a sink that meet a condition, by the statistics and the named columns of its files only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.source.where import TABLE, Where
from jobs.trace import files as numbered
from jobs.trace.files import File, NumberedFiles
from transforms.errors import SpecError, UnreadableSink

if TYPE_CHECKING:
    import duckdb

KEY = "--where"

# Columns of a query, by names that no source has.
_FILE, _ROW = "nightscribe_file", "nightscribe_row"


@dataclass(frozen=True)
class Match:
    """A row that meets the condition: its file, and its number in it."""

    file: File
    row: int


@dataclass(frozen=True)
class _Group:
    """Files with the same columns and, if the condition names partition columns, with the same values of these.

    Attributes:
        numbers: the files, by their places among all.
        schema: columns of each of them.
        folders: partition columns that only the names of folders have.
    """

    numbers: Sequence[int]
    schema: pa.Schema
    folders: dict[str, str | None]


def matches(files: Sequence[File], condition: str, limit: int, place: str) -> tuple[list[Match], int]:
    """The first rows that meet a condition, in the order of the files, and how many more there are.

    Args:
        files: of a sink.
        condition: SQL as in `source.where`, on columns of the part files, their partition folders, and the rejected
            files. A column that a file does not have is null there.
        limit: maximum number of rows.
        place: the sink, for errors.

    Raises:
        SpecError: the condition is wrong, or cannot be computed for a row.
        UnreadableSink: a file is damaged.
        FileNotFoundError: a file was replaced meanwhile.
    """
    import duckdb

    schemas = _schemas(files)
    every = _union(files, schemas)
    with Where(condition, every, KEY, place) as where:
        where.check()
        named = where.names
    found: list[Match] = []
    more = 0
    with duckdb.connect(":memory:", config={"lambda_syntax": "ENABLE_SINGLE_ARROW"}) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.register_filesystem(NumberedFiles(files))
        for group in _groups(files, schemas, named):
            query = f"{_rows(group, named, every)} WHERE (\n{condition}\n)"
            left = limit - len(found)
            try:
                rows = _execute(connection, f"SELECT {_FILE}, {_ROW} {query} LIMIT {left}", group) if left else []
                if len(rows) == left:
                    more += _execute(connection, f"SELECT count(*) {query}", group)[0][0] - left
            except duckdb.Error as error:
                for number in group.numbers:
                    _check(files[number], [name for name in named if name in group.schema.names])
                said = str(error).splitlines()[0]
                raise SpecError(
                    f"{KEY} {condition!r} cannot be computed for every row: {said}; TRY_CAST gives null for a value "
                    f"that cannot be converted"
                ) from error
            found += [Match(files[numbered.number(file)], row) for file, row in rows]
    return found, more


def _execute(connection: duckdb.DuckDBPyConnection, query: str, group: _Group) -> list[Any]:
    return connection.execute(query, [[numbered.url(number) for number in group.numbers]]).fetchall()


def _rows(group: _Group, named: Sequence[str], every: pa.Schema) -> str:
    """The rows of a group as a table of SQL; a constant for a partition column lets DuckDB leave out whole groups."""
    columns = [f"{_FILE}, file_row_number AS {_ROW}"]
    for name in named:
        if name in group.schema.names:
            columns.append(_quoted(name, '"'))
        else:
            value = group.folders.get(name)
            constant = "NULL" if value is None else _quoted(value, "'")
            is_text = pa.types.is_string(every.field(name).type)
            columns.append(f"{f'CAST({constant} AS VARCHAR)' if is_text else constant} AS {_quoted(name, chr(34))}")
    source = f"read_parquet(?, filename='{_FILE}', file_row_number=true, hive_partitioning=false)"
    return f"FROM (SELECT {', '.join(columns)} FROM {source}) AS {TABLE}"


def _quoted(text: str, quote: str) -> str:
    return quote + text.replace(quote, 2 * quote) + quote


def _kind(file: File) -> tuple[bool, str]:
    """What files with equal columns have in common."""
    return file.rejected, file.entries[0].fingerprint.columns


def _schemas(files: Sequence[File]) -> dict[tuple[bool, str], pa.Schema]:
    """The columns of each kind of file, from the footer of one of each.

    Raises:
        UnreadableSink: that file is damaged.
    """
    found: dict[tuple[bool, str], pa.Schema] = {}
    for file in files:
        if (kind := _kind(file)) not in found:
            found[kind] = _check(file, [])
    return found


def _union(files: Sequence[File], schemas: dict[tuple[bool, str], pa.Schema]) -> pa.Schema:
    """Every column of the files, those of the part files first, and of their folders."""
    found: dict[str, pa.DataType] = {}
    for (_, _), schema in sorted(schemas.items(), key=lambda item: item[0][0]):
        for field in schema:
            found.setdefault(field.name, field.type)
    for file in files:
        for name in file.folders:
            found.setdefault(name, pa.string())
    return pa.schema(list(found.items()))


def _groups(
    files: Sequence[File], schemas: dict[tuple[bool, str], pa.Schema], named: Sequence[str]
) -> Iterator[_Group]:
    def place(number: int) -> tuple[Any, ...]:
        file = files[number]
        values = {name: file.folders[name] for name in named if name in file.folders}
        return (*_kind(file), tuple((name, value is not None, value or "") for name, value in sorted(values.items())))

    for _, group in groupby(sorted(range(len(files)), key=place), place):
        numbers = list(group)
        first = files[numbers[0]]
        yield _Group(numbers, schemas[_kind(first)], first.folders)


def _check(file: File, columns: Sequence[str]) -> pa.Schema:
    """Read columns of a file, to find out whether it is damaged; its schema.

    Raises:
        UnreadableSink: it is damaged.
        FileNotFoundError: it is gone.
    """
    try:
        with file.open() as stream, pq.ParquetFile(stream) as parquet:
            for _ in parquet.iter_batches(columns=list(columns)) if columns else ():
                pass
            return parquet.schema_arrow
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError) as error:
        raise UnreadableSink(
            f"{file.name!r} is damaged ({error}), so the sink cannot be searched; restore the file, or delete it and "
            f"run the job again, which writes it anew"
        ) from error
