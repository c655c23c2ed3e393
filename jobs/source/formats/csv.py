"""CSV, split by byte ranges at record ends where that is safe.

It is safe when every quote opens a field after a delimiter or closes one before a delimiter (RFC 4180): then a line end
after an even number of quotes ends a record. A file with a quote anywhere else is read as one range, and so is one with
escapes, comments or an encoding other than UTF-8.
Columns are read as bytes and converted in `csv_values`, so that one bad cell rejects one row and not a block.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
from fsspec import AbstractFileSystem

from jobs.source.formats import csv_dialect, csv_records
from jobs.source.formats.csv_dialect import Head
from jobs.source.formats.csv_records import Escaped, Range, Rewriter, Transcoded
from jobs.source.formats.csv_values import convert, cut, guess, shown
from jobs.source.formats.jsonl import BLOCK_BYTES, SHARD_BYTES, is_compressed, open_bytes
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import UnreadableSource

# A record may be longer than a block: blocks grow up to here.
MAX_RECORD_BYTES = 256 << 20

# Stands in every field of a record put behind the last one: if it does not come out again, a quote was never closed.
SENTINEL = b"\xe2\x90\x84nightscribe5b0f6f6c"


@dataclass(frozen=True)
class _Parsed:
    """Records of a block: a batch of binary columns with the record number of each row, and the ragged ones."""

    batch: pa.RecordBatch
    numbers: np.ndarray
    bad: list[BadRow]


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Find dialect, names and types in the head of the file, and record ends near every SHARD_BYTES.

    Raises:
        UnreadableSource: the header is none.
    """
    with _opened(fs, path, spec) as (stream, encoding):
        start = stream.read(BLOCK_BYTES)
    head = csv_dialect.look(start, spec, path)
    if not head.names:
        return Layout(pa.schema([]), [(0, 0, 0)])
    is_whole = len(start) < BLOCK_BYTES
    schema, records = _guess(start[head.body :], is_whole, head)
    if is_compressed(path) or encoding != "utf-8":
        return Layout(schema, [(0, 0, None)], records if is_whole else None)
    size = fs.size(path)
    about_rows = records if is_whole else round(records * size / max(1, len(start) - head.body))
    if size <= SHARD_BYTES or head.dialect.escape or head.dialect.comment:
        return Layout(schema, [(0, 0, None)], about_rows)
    with fs.open(path, "rb") as stream:
        stream.seek(head.body)
        cuts = csv_records.record_ends(
            stream, SHARD_BYTES, BLOCK_BYTES, head.dialect.delimiter, head.dialect.quote, head.body
        )
    if not cuts:
        return Layout(schema, [(0, 0, None)], about_rows)
    bounds = [0, *(cut for cut in cuts if cut < size), size]
    return Layout(schema, [(a, b, None) for a, b in pairwise(bounds)], about_rows)


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Parse the records of bytes `[start, stop)`; a record that does not fit the schema is a BadRow.

    Raises:
        SourceError: the file is shorter than it was.
        UnreadableSource: quotes are escaped where the head of the file does not show it.
    """
    with _opened(fs, path, spec) as (stream, _):
        head = csv_dialect.look(stream.read(BLOCK_BYTES), spec, path)
    if not head.names:
        return
    dialect = head.dialect
    # A range that was cut has been scanned whole; quotes are in order there.
    watched = b"" if stop or dialect.escape or spec.escape or not dialect.quote else b"\\" + dialect.quote.encode()
    named = frozenset(spec.types or ())
    done, block = 0, BLOCK_BYTES
    while True:
        try:
            for parsed in _records(fs, path, spec, head, start, stop, schema, block, watched):
                batch, numbers = parsed.batch, parsed.numbers
                # What an earlier attempt has given already.
                skip = int(np.searchsorted(numbers, done, "right"))
                place = "" if not start else f" (record {{}} after byte {start:,} of the file)"
                if skip < len(numbers):
                    batch, numbers = batch.slice(skip), numbers[skip:].tolist()
                    items = convert(batch, numbers, schema, named, dialect.delimiter)
                    yield from (_placed(item, place) for item in items)
                yield from (_placed(row, place) for row in parsed.bad if row.row is None or row.row > done)
                last = [row.row for row in parsed.bad if row.row is not None]
                done = max([done, *last, *parsed.numbers[-1:].tolist()])
            return
        except Escaped:
            watched = b""
            if _is_escaped(fs, path, spec, head):
                dialect = replace(dialect, escape="\\", escapes_in_quotes_only=True)
                head = replace(head, dialect=dialect)
        except pa.ArrowInvalid as error:
            if "straddling" not in str(error):
                raise
            block *= 4
            if block > MAX_RECORD_BYTES:
                message = (
                    f"a record is longer than {MAX_RECORD_BYTES >> 20} MiB: a quote is opened and never closed; "
                    f"if quotes are ordinary characters in this file, set source.quote: ''"
                )
                yield _placed(BadRow("RecordTooLong", message, None, done + 1), place)
                return


def record_ends(stream: BinaryIO, every: int, delimiter: str = ",", quote: str = '"') -> list[int]:
    """Byte offsets of record ends, about `every` bytes apart; none at all if a quote is misplaced."""
    return csv_records.record_ends(stream, every, BLOCK_BYTES, delimiter, quote)


@contextmanager
def _opened(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Iterator[tuple[BinaryIO, str]]:
    """The file as UTF-8 text, and its encoding; with UTF-8 the bytes are those of the file, a mark included."""
    with open_bytes(fs, path) as stream:
        encoding = csv_dialect.encoding(stream.read(1000), spec, path)
        stream.seek(0)
        if encoding == "utf-8":
            yield stream, encoding
        else:
            yield cast(BinaryIO, io.BufferedReader(Transcoded(stream, encoding), 1 << 20)), encoding


def _rewriter(head: Head) -> Rewriter | None:
    d = head.dialect
    if not d.escape and not d.comment:
        return None
    return Rewriter(d.delimiter, d.quote, d.escape, d.comment, d.escapes_in_quotes_only)


def _columns(head: Head) -> list[str]:
    """Names for Arrow's parser: one more where all records end in a delimiter."""
    return [*head.names, *(["\0"] if head.has_last_delimiter else [])]


def _records(
    fs: AbstractFileSystem,
    path: str,
    spec: SourceSpec,
    head: Head,
    start: int,
    stop: int,
    schema: pa.Schema,
    block: int,
    watched: bytes,
) -> Iterator[_Parsed]:
    """The records of a range, parsed but not converted."""
    names = _columns(head)
    ragged: list[BadRow] = []

    def note(row: pa.csv.InvalidRow) -> str:
        message = f"{row.actual_columns} fields, the header has {len(head.names)}"
        raw = row.text.split(SENTINEL.decode())[0]
        ragged.append(BadRow("RaggedLine", message, cut(raw), row.number))
        return "skip"

    wanted = [name for name in schema.names if name in head.names]
    with _opened(fs, path, spec) as (stream, _):
        stream.read(head.body) if not start else stream.seek(start)
        length = stop - (start or head.body) if stop else None
        end = head.dialect.delimiter.encode().join([SENTINEL] * len(names)) + b"\n"
        body = io.BufferedReader(Range(stream, length, end, watched, _rewriter(head)))
        try:
            reader = pa.csv.open_csv(
                body,
                pa.csv.ReadOptions(use_threads=False, block_size=block, column_names=names),
                head.dialect.options(note),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()),
                    include_columns=wanted or names[:1],
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        before = 0
        for batch in reader:
            numbers, bad = _numbered(before, len(batch), ragged)
            before = max([before, *numbers[-1:].tolist(), *(row.row or 0 for row in bad)])
            batch, unclosed = _without_sentinel(batch, numbers, head.dialect.delimiter)
            numbers = numbers[: len(batch)]
            yield _Parsed(batch if wanted else _without_columns(batch, schema), numbers, [*bad, *unclosed])
        if ragged:
            yield _Parsed(_without_columns(None, schema), np.empty(0, np.int64), ragged)


def _numbered(before: int, rows: int, ragged: list[BadRow]) -> tuple[np.ndarray, list[BadRow]]:
    """Record numbers of the rows of a batch, and the ragged records among them, which are taken from the list."""
    last = before + rows
    at = 0
    while at < len(ragged) and (ragged[at].row or 0) <= last + 1:
        last, at = last + 1, at + 1
    bad, ragged[:at] = ragged[:at], []
    numbers = np.arange(before + 1, last + 1)
    return np.setdiff1d(numbers, [row.row or 0 for row in bad], assume_unique=True) if bad else numbers, bad


def _without_columns(batch: pa.RecordBatch | None, schema: pa.Schema) -> pa.RecordBatch:
    """As many rows, with one empty column: a file may have none of the columns that are wanted."""
    cells = pa.array([b""] * (0 if batch is None else len(batch)), pa.binary())
    return pa.RecordBatch.from_arrays([cells], names=schema.names[:1])


def _without_sentinel(
    batch: pa.RecordBatch, numbers: np.ndarray, delimiter: str
) -> tuple[pa.RecordBatch, list[BadRow]]:
    """The records of a batch but for the sentinel; one that swallowed it is a bad row."""
    if not len(batch):
        return batch, []
    last = [column[len(batch) - 1].as_py() for column in batch.columns]
    if not any(SENTINEL in value for value in last):
        return batch, []
    bad = []
    if any(value != SENTINEL for value in last):
        message = "a quote is opened and never closed, so the rest of the file is one record"
        raw = cut(shown(last, delimiter).split(SENTINEL.decode())[0].rstrip("\n"))
        bad.append(BadRow("UnclosedQuote", message, raw, int(numbers[-1])))
    return batch.slice(0, len(batch) - 1), bad


def _placed(item: pa.RecordBatch | BadRow, place: str) -> pa.RecordBatch | BadRow:
    """The item; a bad row of a later range says where that is, since its number in the file is not known."""
    if not place or not isinstance(item, BadRow):
        return item
    return replace(item, message=item.message + place.format(item.row), row=None)


def _guess(body: bytes, is_whole: bool, head: Head) -> tuple[pa.Schema, int]:
    """Types that all complete records of the head agree on, and the number of those."""
    ragged: list[int] = []

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append(row.number)
        return "skip"

    rewriter = _rewriter(head)
    body = rewriter.write(body, True) if rewriter is not None else body
    names = _columns(head)
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(body),
            pa.csv.ReadOptions(use_threads=False, block_size=len(body) + 1, column_names=names),
            head.dialect.options(note),
            pa.csv.ConvertOptions(column_types=dict.fromkeys(names, pa.binary()), strings_can_be_null=False),
        )
    except pa.ArrowInvalid as error:
        if "Empty CSV" not in str(error):
            raise
        return pa.schema([(name, pa.string()) for name in head.names]), 0
    records = len(table) + len(ragged) - (not is_whole)
    # The last record of a part of a file is cut.
    table = table if is_whole or not len(table) else table.slice(0, len(table) - 1)
    columns = {name: table[name].combine_chunks() for name in head.names}
    return pa.schema([(name, guess(cells)) for name, cells in columns.items()]), records


def _is_escaped(fs: AbstractFileSystem, path: str, spec: SourceSpec, head: Head) -> bool:
    """Whether quotes are escaped with a backslash in a file whose head does not show it.

    Raises:
        UnreadableSource: they are, and records before them hold two backslashes, which were read as two.
    """
    with _opened(fs, path, spec) as (stream, _):
        text = stream.read(SHARD_BYTES)
    if csv_dialect.look(text, spec, path).dialect.escape != "\\":
        return False
    if b"\\\\" in text[: text.find(b"\\" + head.dialect.quote.encode())]:
        raise UnreadableSource(f"{path}: quotes are escaped with a backslash; set source.escape: '\\'")
    return True
