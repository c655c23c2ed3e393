"""CSV with a header line, split by byte ranges at record ends where that is safe.

It is safe when every quote opens a field after a delimiter or closes one before a delimiter (RFC 4180): then a line end
after an even number of quotes ends a record. A file with a quote anywhere else is read as one range.
Columns are read as bytes and converted here, so that one bad value rejects one row and not a block.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import pairwise
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from fsspec import AbstractFileSystem

from jobs.source.formats.jsonl import BLOCK_BYTES, SHARD_BYTES, is_compressed, open_bytes
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import SourceError

NEWLINE = np.frombuffer(b"\n", np.uint8)
NULLS = pa.array(pa.csv.ConvertOptions().null_values)

# Stands in every field of a record put behind the last one: if it does not come out again, a quote was never closed.
SENTINEL = b"\xe2\x90\x84nightscribe 5b0f6f6c"


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Infer column types from the head of the file and find record ends near every SHARD_BYTES."""
    with open_bytes(fs, path) as stream:
        head = stream.read(BLOCK_BYTES)
    if not head.strip():
        return Layout(pa.schema([]), [(0, 0, 0)])
    schema = _infer(head, path)
    size = fs.size(path)
    if is_compressed(path):
        return Layout(schema, [(0, 0, None)])
    # Line ends inside of quotes count too; for a guess that will do.
    about_rows = round(size * head.count(b"\n") / len(head))
    if size <= SHARD_BYTES:
        return Layout(schema, [(0, 0, None)], about_rows)
    with fs.open(path, "rb") as stream:
        cuts = record_ends(stream, SHARD_BYTES)
    if not cuts:
        return Layout(schema, [(0, 0, None)], about_rows)
    bounds = [0, *(cut for cut in cuts if cut < size), size]
    return Layout(schema, [(a, b, None) for a, b in pairwise(bounds)], about_rows)


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Parse the records of bytes `[start, stop)`; a record that does not fit the schema is a BadRow."""
    with open_bytes(fs, path) as stream:
        names = _header(stream, path)
        if not names:
            return
        stream.seek(start)
        bad: list[BadRow] = []

        def ragged(row: pa.csv.InvalidRow) -> str:
            message = f"{row.actual_columns} fields, the header has {row.expected_columns}"
            bad.append(BadRow("RaggedLine", message, row.text.split(SENTINEL.decode())[0]))
            return "skip"

        end = b",".join([SENTINEL] * len(names)) + b"\n"
        body = io.BufferedReader(_Range(stream, stop - start if stop else None, end))
        try:
            reader = pa.csv.open_csv(
                body,
                pa.csv.ReadOptions(use_threads=False, block_size=BLOCK_BYTES, column_names=names, skip_rows=not start),
                pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=ragged),
                pa.csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.binary()),
                    include_columns=[name for name in schema.names if name in names],
                    strings_can_be_null=False,
                ),
            )
        except pa.ArrowInvalid as error:
            if "Empty CSV" in str(error):
                return
            raise
        for batch in reader:
            yield from _converted(_without_sentinel(batch, bad), schema)
            yield from bad
            bad.clear()
        yield from bad


def record_ends(stream: BinaryIO, every: int) -> list[int]:
    """Byte offsets of record ends, about `every` bytes apart; none at all if a quote stands where it must not.

    A quote may open a field after a delimiter or a line end, close one before one, or be doubled inside one.
    """
    cuts: list[int] = []
    offset = quotes = 0
    before = NEWLINE
    block = np.frombuffer(stream.read(BLOCK_BYTES), np.uint8)
    while len(block):
        following = np.frombuffer(stream.read(BLOCK_BYTES), np.uint8)
        padded = np.concatenate([before, block, following[:1] if len(following) else NEWLINE])
        quote = padded == ord('"')
        edge = np.isin(padded, np.frombuffer(b",\n\r", np.uint8))
        odd = (quotes + np.cumsum(quote[1:-1])) % 2 == 1
        opens, closes = quote[1:-1] & odd, quote[1:-1] & ~odd
        # A doubled quote closes and opens again: the closing half has a quote after it, the opening half one before.
        if (opens & ~(edge | quote)[:-2]).any() or (closes & ~(edge | quote)[2:]).any():
            return []
        ends = np.flatnonzero((block == ord("\n")) & ~odd) + offset + 1
        while (i := np.searchsorted(ends, (cuts[-1] if cuts else 0) + every)) < len(ends):
            cuts.append(int(ends[i]))
        quotes += int(quote[1:-1].sum())
        offset += len(block)
        before = block[-1:]
        block = following
    return cuts


class _Range(io.RawIOBase):
    """The next `length` bytes of a stream (all of them, if None) and then `end` on a line of its own, as a stream."""

    def __init__(self, stream: BinaryIO, length: int | None, end: bytes):
        self.stream, self.left, self.end = stream, length, end
        self.ended_line = True

    def readable(self) -> bool:
        return True

    # The stub allows any buffer; BufferedReader, which alone reads this, gives a memoryview.
    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        block = self.stream.read(len(buffer) if self.left is None else min(len(buffer), self.left))
        if not block and self.left:
            raise SourceError(
                f"the file ended {self.left} bytes before its planned end; it was changed while being read"
            )
        if block:
            self.left = None if self.left is None else self.left - len(block)
            self.ended_line = block.endswith((b"\n", b"\r"))
        elif self.ended_line:
            block, self.end = self.end[: len(buffer)], self.end[len(buffer) :]
        else:
            block, self.ended_line = b"\n", True
        buffer[: len(block)] = block
        return len(block)


def _without_sentinel(batch: pa.RecordBatch, bad: list[BadRow]) -> pa.RecordBatch:
    """The records of a batch but for the sentinel; one that swallowed it is a bad row."""
    if not len(batch):
        return batch
    last = [column[len(batch) - 1].as_py() for column in batch.columns]
    if not any(SENTINEL in value for value in last):
        return batch
    if any(value != SENTINEL for value in last):
        message = "a quote is opened and never closed, so the rest of the file is one record"
        bad.append(BadRow("UnclosedQuote", message, _shown(last).split(SENTINEL.decode())[0].rstrip("\n")))
    return batch.slice(0, len(batch) - 1)


def _header(stream: BinaryIO, path: str) -> list[str]:
    """Column names of the first record; none of an empty file."""
    line = stream.readline()
    if not line.strip():
        return []
    try:
        names = pa.csv.read_csv(pa.BufferReader(line), pa.csv.ReadOptions(use_threads=False)).schema.names
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: its first line is no CSV header: {error}") from error
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SourceError(f"{path}: column {twice[0]!r} stands twice in the header; rename one")
    return names


def _infer(head: bytes, path: str) -> pa.Schema:
    """Types that all complete records of the head agree on; a column that is empty there is a string."""
    names = _header(io.BytesIO(head), path)
    skip_bad = pa.csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda row: "skip")
    options = pa.csv.ReadOptions(use_threads=False, block_size=len(head) + 1)
    try:
        schema = pa.csv.read_csv(pa.BufferReader(head), options, skip_bad).schema
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        raise SourceError(f"{path} is no CSV: {error}") from error
    # Bytes that are no UTF-8 make Arrow infer binary; they are text with bad rows.
    text = [field.type in (pa.null(), pa.binary()) for field in schema]
    return pa.schema([(name, pa.string() if t else f.type) for name, f, t in zip(names, schema, text, strict=True)])


def _converted(batch: pa.RecordBatch, schema: pa.Schema) -> Iterator[pa.RecordBatch | BadRow]:
    """Bytes -> the schema's types; where that fails, row by row."""
    try:
        yield _cast(batch, schema)
        return
    except (pa.ArrowInvalid, UnicodeDecodeError) as error:
        if len(batch) == 1:
            yield _bad_row(batch, error)
            return
    middle = len(batch) // 2
    yield from _converted(batch.slice(0, middle), schema)
    yield from _converted(batch.slice(middle), schema)


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    fields = [schema.field(name) for name in batch.schema.names]
    arrays = []
    for field, array in zip(fields, batch.columns, strict=True):
        text = array.cast(pa.string())
        if not pa.types.is_string(field.type):
            text = pc.utf8_trim_whitespace(text)
            text = pc.if_else(pc.is_in(text, NULLS), pa.scalar(None, pa.string()), text)
            text = pc.utf8_lower(text) if pa.types.is_boolean(field.type) else text
        arrays.append(text.cast(field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def _bad_row(row: pa.RecordBatch, error: Exception) -> BadRow:
    kind = "InvalidUTF8" if "UTF8" in str(error).upper() else "InvalidValue"
    return BadRow(kind, str(error), _shown([column[0].as_py() for column in row.columns]))


def _shown(values: list[bytes]) -> str:
    return ",".join(value.decode("utf-8", "backslashreplace") for value in values)
