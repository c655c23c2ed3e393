"""CSV, split into byte ranges at the ends of records if that is safe.

It is safe if every quote opens a field after a delimiter or closes one before a delimiter (RFC 4180): then a line end
after an even number of quotes ends a record. A file with a quote in another position is read as one range, as is a file
with escapes, comments or an encoding other than UTF-8.
Columns are read as bytes and converted in `csv_values`, so that one bad cell rejects one row and not a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.csv
from fsspec import AbstractFileSystem

from jobs.source.formats import csv_dialect, csv_records
from jobs.source.formats.csv_dialect import Head
from jobs.source.formats.csv_parser import SENTINEL, columns_of, opened, records, rewriter_of
from jobs.source.formats.csv_records import Escaped
from jobs.source.formats.csv_values import convert, guess
from jobs.source.formats.jsonl import BLOCK_BYTES, SHARD_BYTES, is_compressed
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import UnreadableSource

__all__ = ["SENTINEL", "inspect", "read", "record_ends"]

# A record may be longer than a block, so blocks grow up to this size.
MAX_RECORD_BYTES = 256 << 20


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Find dialect, names and types in the head of the file, and record ends near every SHARD_BYTES.

    Raises:
        UnreadableSource: the first record cannot be a header.
    """
    with opened(fs, path, spec) as (stream, encoding):
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
        SourceError: the file is shorter than it was when it was planned.
        UnreadableSource: quotes are escaped, and the head of the file does not show it.
    """
    with opened(fs, path, spec) as (stream, _):
        head = csv_dialect.look(stream.read(BLOCK_BYTES), spec, path)
    if not head.names:
        return
    dialect = head.dialect
    # A file that was split has been scanned completely: its quotes are not escaped.
    watched = b"" if stop or dialect.escape or spec.escape or not dialect.quote else b"\\" + dialect.quote.encode()
    named = frozenset(spec.types or ())
    done, block, as_latin = 0, BLOCK_BYTES, False
    place = "" if not start else f" (record {{}} after byte {start:,} of the file)"
    while True:
        try:
            for parsed in records(fs, path, spec, head, start, stop, schema, block, watched, as_latin):
                batch, numbers = parsed.batch, parsed.numbers
                # Skip rows that an earlier attempt has returned already.
                skip = int(np.searchsorted(numbers, done, "right"))
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
            if "Expected" in str(error) and not as_latin:
                as_latin = True
                continue
            if "straddling" not in str(error) and "out of sync" not in str(error):
                raise
            # Not a multiple of the old size, so that blocks end in other places.
            block = 4 * block + 1
            if block > 4 * MAX_RECORD_BYTES:
                message = (
                    f"a record is longer than {MAX_RECORD_BYTES >> 20} MiB: a quote is opened and never closed; "
                    f"if quotes are ordinary characters in this file, set source.quote: ''"
                )
                yield _placed(BadRow("RecordTooLong", message, None, done + 1), place)
                return


def record_ends(stream: BinaryIO, every: int, delimiter: str = ",", quote: str = '"') -> list[int]:
    """Byte offsets of record ends, about `every` bytes apart; none at all if a quote is misplaced."""
    return csv_records.record_ends(stream, every, BLOCK_BYTES, delimiter, quote)


def _placed(item: pa.RecordBatch | BadRow, place: str) -> pa.RecordBatch | BadRow:
    """The item; the message of a bad row in a later range names that range, because its row number is unknown."""
    if not place or not isinstance(item, BadRow):
        return item
    return replace(item, message=item.message + place.format(item.row), row=None)


def _guess(body: bytes, is_whole: bool, head: Head) -> tuple[pa.Schema, int]:
    """Guess types that fit all complete records of the head; returns them and the number of those records."""
    # Cut at the end of a character.
    body = body if is_whole else body[: body.rfind(b"\n") + 1] or body
    try:
        body.decode()
    except UnicodeDecodeError:
        # Arrow can only skip ragged records that are valid UTF-8. Columns with invalid bytes become text anyway.
        body = body.decode("latin-1").encode()
    ragged: list[int] = []

    def note(row: pa.csv.InvalidRow) -> str:
        ragged.append(row.number)
        return "skip"

    rewriter = rewriter_of(head)
    body = rewriter.write(body, True) if rewriter is not None else body
    names = columns_of(head)
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
        return pa.schema([(name, pa.null()) for name in head.names]), 0
    records = len(table) + len(ragged) - (not is_whole)
    # If only a part of the file was read, its last record is incomplete.
    if not is_whole and len(table) and ragged[-1:] != [len(table) + len(ragged)]:
        table = table.slice(0, len(table) - 1)
    columns = {name: table[name].combine_chunks() for name in head.names}
    return pa.schema([(name, guess(cells)) for name, cells in columns.items()]), records


def _is_escaped(fs: AbstractFileSystem, path: str, spec: SourceSpec, head: Head) -> bool:
    """Whether quotes are escaped with a backslash, in a file with no such quote in its head.

    Raises:
        UnreadableSource: they are, and earlier records contain double backslashes, which have been read as two.
    """
    with opened(fs, path, spec) as (stream, _):
        text = stream.read(SHARD_BYTES)
    if csv_dialect.look(text, spec, path).dialect.escape != "\\":
        return False
    if b"\\\\" in text[: text.find(b"\\" + head.dialect.quote.encode())]:
        raise UnreadableSource(f"{path}: quotes are escaped with a backslash; set source.escape: '\\'")
    return True
