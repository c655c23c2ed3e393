"""A Shard is a range of rows of one source file at one version: the unit of work, of resume and of the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import pyarrow as pa

# The format of the data files of tables, which only the code of their tables reads.
TABLE = "table"

# Format -> what the start and the stop of a shard count.
UNITS = {
    "parquet": ("row group", "row groups"),
    "table": ("row group", "row groups"),
    "arrow": ("record batch", "record batches"),
    "csv": ("byte", "bytes"),
    "jsonl": ("byte", "bytes"),
}


@dataclass(frozen=True)
class Shard:
    """A range of rows of one source file at one version.

    Attributes:
        file: path or URL to open.
        key: the file's name below the source's root; it stays the same when a lake is moved.
        version: size and modification time, ETag, checksum or commit; it changes when the content does.
        format: parquet, csv, jsonl, arrow, table or dataset.
        start: first row group (parquet, table), record batch (arrow), byte (csv, jsonl) or dataset shard.
        stop: one past the last; 0 means the end of a file that cannot be split.
        rows: number of rows in the range before any filter; None if the format does not state it.
        limit: maximum number of rows to return, if `source.limit` ends within this shard.
        about_rows: an estimate of `rows` if they are unknown before reading; only for progress, never for row counts.
        pruned: it has no row that meets `source.where`, by what the table's log says; it is not opened.
    """

    file: str
    key: str
    version: str
    format: str
    start: int
    stop: int
    rows: int | None = None
    limit: int | None = None
    about_rows: int | None = None
    pruned: bool = False

    # Computed once: a plan of 100,000 shards asks some ten times for each.
    @cached_property
    def id(self) -> str:
        """A hash of key, version, range and limit."""
        return _hash(self.key, self.version, self.start, self.stop, self.limit)

    @cached_property
    def slot(self) -> str:
        """Its place in a sink: the same for every version of the file, so that a new one replaces the old."""
        return _hash(self.key, self.start)


@dataclass(frozen=True)
class BadRow:
    """A row that could not be read: it becomes a rejected row and is never dropped.

    Attributes:
        error_type: class of the error, such as InvalidUTF8.
        message: what is wrong with it.
        raw: the row as it is written in the file, if the file is text; None for binary formats.
        row: record number in the file, counted from 1 (for JSON lines the line number); None if unknown.
        column: the column at fault; None if there is no single one.
        values: one row with the columns that could be read, in the types of the source or castable to them.
    """

    error_type: str
    message: str
    raw: str | None = None
    row: int | None = None
    column: str | None = None
    values: pa.RecordBatch | None = None


@dataclass(frozen=True)
class Layout:
    """The schema and the ranges of a file, found before its rows are read.

    Attributes:
        schema: the file's columns.
        ranges: (start, stop, rows or None) that can be read separately, in order.
        about_rows: an estimate of the rows of the whole file, if the ranges have no row counts.
    """

    schema: pa.Schema
    ranges: list[tuple[int, int, int | None]]
    about_rows: int | None = None


def shown_range(format_: str, start: int, stop: int) -> str:
    """The range of a shard for a person, such as `row groups 0 to 3`; its stop is one past the last."""
    one, several = UNITS.get(format_, ("shard", "shards"))
    if not stop:
        return f"{several} from {start:,}" if start else "the whole file"
    return f"{one} {start:,}" if stop == start + 1 else f"{several} {start:,} to {stop - 1:,}"


def _hash(*parts: object) -> str:
    return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=12).hexdigest()
