"""Parses a range of a CSV file with Arrow: batches of binary columns with record numbers, and ragged records.

A ragged record is one that does not have as many fields as the header.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.csv
from fsspec import AbstractFileSystem

from jobs.source.formats import csv_dialect, signature
from jobs.source.formats.csv_dialect import Head
from jobs.source.formats.csv_records import Range, Rewriter, Transcoded
from jobs.source.formats.csv_values import cut, shown
from jobs.source.formats.jsonl import is_compressed, open_bytes
from jobs.source.shard import BadRow
from jobs.spec import SourceSpec

# The text of every field in a record that is added at the end: if that record is not parsed as such, a quote was never
# closed.
SENTINEL = b"\xe2\x90\x84nightscribe5b0f6f6c"


@dataclass(frozen=True)
class Parsed:
    """Records of a block: a batch of binary columns with the record number of each row, and the ragged ones."""

    batch: pa.RecordBatch
    numbers: np.ndarray
    bad: list[BadRow]


@contextmanager
def opened(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Iterator[tuple[BinaryIO, str]]:
    """Open a file as UTF-8 text; returns the stream and the file's encoding.

    The bytes of a UTF-8 file are not changed, so a byte order mark is part of the stream.
    """
    with open_bytes(fs, path) as stream:
        start = stream.read(1000)
        signature.refuse(start, path, is_compressed(path))
        encoding = csv_dialect.encoding(start, spec, path)
        stream.seek(0)
        if encoding == "utf-8":
            yield stream, encoding
        else:
            yield cast(BinaryIO, io.BufferedReader(Transcoded(stream, encoding), 1 << 20)), encoding


def rewriter_of(head: Head) -> Rewriter | None:
    """A rewriter from the dialect to one that Arrow can parse; None if Arrow can parse the dialect itself."""
    d = head.dialect
    if not d.escape and not d.comment:
        return None
    return Rewriter(d.delimiter, d.quote, d.escape, d.comment, d.escapes_in_quotes_only)


def columns_of(head: Head) -> list[str]:
    """Column names for Arrow's parser, with an additional one if all records end in a delimiter."""
    return [*head.names, *(["\0"] if head.has_last_delimiter else [])]


def records(
    fs: AbstractFileSystem,
    path: str,
    spec: SourceSpec,
    head: Head,
    start: int,
    stop: int,
    schema: pa.Schema,
    block: int,
    watched: bytes,
    as_latin: bool,
) -> Iterator[Parsed]:
    """The records of a range, parsed but not converted.

    Args:
        fs: filesystem of the file.
        path: path of the file.
        spec: the `source` section of the job file.
        start: first byte; 0 for the first record.
        stop: one past the last byte; 0 for the end of the file.
        schema: the selected columns.
        head: properties found in the head of the file.
        block: bytes that Arrow parses at a time.
        watched: bytes that must not occur.
        as_latin: pass the bytes to Arrow as Latin-1, because it cannot report a ragged record that is not UTF-8.
    """
    names = columns_of(head)
    ragged: list[BadRow] = []

    def note(row: pa.csv.InvalidRow) -> str:
        message = f"the record has {row.actual_columns} fields, and the header has {len(head.names)}"
        text = _from_latin(row.text.encode()).decode("utf-8", "backslashreplace") if as_latin else row.text
        raw = text.split(SENTINEL.decode())[0]
        ragged.append(BadRow("RaggedLine", message, cut(raw), row.number))
        return "skip"

    wanted = [name for name in schema.names if name in head.names]
    with opened(fs, path, spec) as (stream, _):
        stream.read(head.body) if not start else stream.seek(start)
        length = stop - (start or head.body) if stop else None
        end = head.dialect.delimiter.encode().join([SENTINEL] * len(names)) + b"\n"
        together = head.dialect.quote + head.dialect.escape + "\r"
        body: Range | io.BufferedReader = Range(stream, path, length, end, watched, together, rewriter_of(head))
        if as_latin:
            body = io.BufferedReader(Transcoded(cast(BinaryIO, body), "latin-1"), 1 << 20)
        try:
            with _without_noise():
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
        while (batch := _next(reader)) is not None:
            if as_latin:
                arrays = [pa.array(map(_from_latin, column.to_pylist()), pa.binary()) for column in batch.columns]
                batch = pa.RecordBatch.from_arrays(arrays, batch.schema.names)
            numbers, bad = _numbered(before, len(batch), ragged)
            before = max([before, *numbers[-1:].tolist(), *(row.row or 0 for row in bad)])
            batch, unclosed = _without_sentinel(batch, numbers, head.dialect.delimiter)
            numbers = numbers[: len(batch)]
            yield Parsed(batch if wanted else _without_columns(batch, schema), numbers, [*bad, *unclosed])
        if ragged:
            yield Parsed(_without_columns(None, schema), np.empty(0, np.int64), ragged)


def _numbered(before: int, rows: int, ragged: list[BadRow]) -> tuple[np.ndarray, list[BadRow]]:
    """Record numbers of the rows of a batch, and the ragged records among them, which are removed from `ragged`."""
    last = before + rows
    at = 0
    while at < len(ragged) and (ragged[at].row or 0) <= last + 1:
        last, at = last + 1, at + 1
    bad, ragged[:at] = ragged[:at], []
    numbers = np.arange(before + 1, last + 1)
    return np.setdiff1d(numbers, [row.row or 0 for row in bad], assume_unique=True) if bad else numbers, bad


def _without_columns(batch: pa.RecordBatch | None, schema: pa.Schema) -> pa.RecordBatch:
    """A batch with as many rows and one empty column, for a file that has none of the selected columns."""
    cells = pa.array([b""] * (0 if batch is None else len(batch)), pa.binary())
    return pa.RecordBatch.from_arrays([cells], names=schema.names[:1])


def _without_sentinel(
    batch: pa.RecordBatch, numbers: np.ndarray, delimiter: str
) -> tuple[pa.RecordBatch, list[BadRow]]:
    """The records of a batch without the sentinel record; a record that contains the sentinel becomes a bad row."""
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


def _next(reader: pa.csv.CSVStreamingReader) -> pa.RecordBatch | None:
    """The next batch; None at the end."""
    with _without_noise():
        try:
            return reader.read_next_batch()
        except StopIteration:
            return None


@contextmanager
def _without_noise() -> Iterator[None]:
    """Suppress the traceback that Arrow prints before it raises an error for a ragged record that is not UTF-8."""
    shown = sys.unraisablehook

    def hook(unraisable: sys.UnraisableHookArgs, /) -> None:
        if not isinstance(unraisable.exc_value, UnicodeDecodeError):
            shown(unraisable)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = shown


def _from_latin(cell: bytes) -> bytes:
    """The inverse of `as_latin`: each character becomes one byte again."""
    return cell if cell.isascii() else cell.decode().encode("latin-1")
