"""The dialect of a CSV file: as set in the job file, or else detected in the head of the file."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import pyarrow.csv

from jobs.source.formats.csv_records import misplaced_quotes
from jobs.spec import SourceSpec
from transforms.errors import UnreadableSource

DELIMITERS = (",", ";", "\t", "|")
# Not detected, because they occur in ordinary headers too; only named in the error for a header of one column.
OTHER_DELIMITERS = ("^", "~", ":", "\x01", "\x1f", " ")
SAMPLE_BYTES = 64 << 10
SAMPLE_RECORDS = 100
UTF8_MARK = b"\xef\xbb\xbf"
# UTF-32 before UTF-16, because its byte order marks begin with those of UTF-16.
MARKS = {
    UTF8_MARK: "utf-8",
    b"\xff\xfe\x00\x00": "utf-32",
    b"\x00\x00\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}


@dataclass(frozen=True)
class Dialect:
    """The characters that separate fields and records of a CSV file.

    Attributes:
        delimiter: between two fields.
        quote: around a field that contains a delimiter or a line end; empty if there is none.
        escape: before a quote inside a quoted field; empty if quotes are doubled.
        escapes_in_quotes_only: whether the escape is an ordinary character in a field without quotes, as Spark writes
            it; otherwise it may also escape a delimiter or a line end, as Python writes it.
        comment: first character of lines that are skipped; empty if there is none.
    """

    delimiter: str = ","
    quote: str = '"'
    escape: str = ""
    escapes_in_quotes_only: bool = False
    comment: str = ""

    def options(self, ragged: object) -> pyarrow.csv.ParseOptions:
        """Options of Arrow's parser.

        Args:
            ragged: called with each record that does not have as many fields as the header.
        """
        return pyarrow.csv.ParseOptions(
            delimiter=self.delimiter,
            quote_char=self.quote or False,
            double_quote=bool(self.quote),
            escape_char=self.escape or False,
            newlines_in_values=bool(self.quote or self.escape),
            invalid_row_handler=ragged,
        )

    def fields(self, text: str) -> list[list[str]]:
        """Parse the records of a short text with Python's parser."""
        reader = csv.reader(
            io.StringIO(text, newline=""),
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE,
            escapechar=self.escape or None,
        )
        try:
            return [record for record in reader if record]
        except csv.Error:
            return []


@dataclass(frozen=True)
class Head:
    """Properties of a file that are found in its head.

    Attributes:
        dialect: dialect of the file.
        names: column names; empty for an empty file.
        body: byte offset of the first data record, in the text as UTF-8.
        has_last_delimiter: whether every data record has a delimiter at its end and the header has none.
    """

    dialect: Dialect
    names: tuple[str, ...]
    body: int = 0
    has_last_delimiter: bool = False


def encoding(raw: bytes, spec: SourceSpec, path: str) -> str:
    """The encoding of a file: from `source.encoding`, or else from its byte order mark, or else UTF-8.

    Args:
        raw: first bytes of the file.
        spec: the `source` section of the job file.
        path: path of the file, for messages.

    Raises:
        UnreadableSource: the file looks like UTF-16 without a byte order mark.
    """
    marked = next((name for mark, name in MARKS.items() if raw.startswith(mark)), None)
    named = (spec.encoding or "utf-8").lower().replace("_", "-")
    named = "utf-8" if named in ("utf-8-sig", "utf8", "u8", "ascii", "us-ascii") else named
    if marked is not None and (named == "utf-8" or named.startswith(marked)):
        return marked
    even, odd = raw[0::2].count(0), raw[1::2].count(0)
    if spec.encoding is None and min(even, odd) == 0 and max(even, odd) > len(raw) * 0.4:
        name = "utf-16-be" if even else "utf-16-le"
        raise UnreadableSource(f"{path} is not UTF-8 but looks like {name}; set source.encoding: {name}")
    return named


def look(head: bytes, spec: SourceSpec, path: str) -> Head:
    """Find the dialect, the column names and the beginning of the data records.

    Args:
        head: the beginning of the file, as UTF-8.
        spec: the `source` section of the job file.
        path: path of the file, for messages.

    Raises:
        UnreadableSource: the header is not UTF-8, has a name twice, or looks like a single column.
    """
    escape = spec.escape or ""
    quote = '"' if spec.quote is None else spec.quote
    known = Dialect(spec.delimiter or ",", quote, "" if escape == quote else escape, comment=spec.comment or "")
    if not escape and _has_backslash_escapes(head, known):
        known = replace(known, escape="\\", escapes_in_quotes_only=True)
    begin = _first_record(head, known)
    sample = head[begin : begin + SAMPLE_BYTES]
    if not sample.strip():
        return Head(known, (), begin)
    dialect = known if spec.delimiter else replace(known, delimiter=_delimiter(sample, known))
    end = begin + _record_length(sample, dialect)
    try:
        header = next(iter(dialect.fields(head[begin:end].decode())), [""])
    except UnicodeDecodeError as error:
        raise UnreadableSource(
            f"{path}: its header is not UTF-8 (byte {begin + error.start}: {error.reason}); set source.encoding, "
            f"such as cp1252"
        ) from error
    rows = _sample_rows(sample, dialect)
    _refuse_one_column(header, rows, sample, dialect, path)
    if not spec.header:
        return Head(dialect, _numbered(header, spec, path), begin)
    more = [row for row in rows[1:] if len(row) == len(header) + 1 and not row[-1]]
    return Head(dialect, _names(header, spec, path), end, bool(more) and len(more) == len(rows) - 1)


def _first_record(head: bytes, dialect: Dialect) -> int:
    """Byte offset of the first record, after a byte order mark, blank lines and comments."""
    at = len(UTF8_MARK) if head.startswith(UTF8_MARK) else 0
    skipped = rb"[ \t]*(?:\r\n|\n|\r)"
    if dialect.comment:
        skipped += b"|" + re.escape(dialect.comment.encode()) + rb"[^\r\n]*(?:\r\n|\n|\r)"
    found = re.compile(b"(?:" + skipped + b")*").match(head, at)
    return found.end() if found else at


def _record_length(head: bytes, dialect: Dialect) -> int:
    """Number of bytes of the first record, including its line end; a line end inside quotes does not end it."""
    delimiter, quote, escape = (re.escape(c.encode()) for c in (dialect.delimiter, dialect.quote, dialect.escape))
    plain = b"[^\r\n" + delimiter + b"]*+"
    field = plain
    if quote:
        inner = b"[^" + quote + escape + b"]" + (b"|" + escape + b"." if escape else b"") + b"|" + quote * 2
        field = quote + b"(?:" + inner + b")*+" + quote + plain + b"|" + plain
    found = re.compile(b"(?:" + field + b")(?:" + delimiter + b"(?:" + field + b"))*+(?:\r\n|\n|\r)?", re.DOTALL).match(
        head
    )
    return found.end() if found else 0


def _delimiter(sample: bytes, dialect: Dialect) -> str:
    """The delimiter that splits the header into several fields, and most records into as many as the header."""
    best, most = ",", 0.0
    for delimiter in DELIMITERS:
        if delimiter.encode() not in sample or delimiter == dialect.quote:
            continue
        share = _agreement(_sample_rows(sample, replace(dialect, delimiter=delimiter)))
        if share > most:
            best, most = delimiter, share
    return best


def _agreement(rows: list[list[str]]) -> float:
    """Share of the records (including the first) with as many fields as the first; 0 if the first has only one."""
    if not rows or len(rows[0]) < 2:
        return 0.0
    counts = Counter(len(row) - (len(row) == len(rows[0]) + 1 and not row[-1]) for row in rows)
    return counts[len(rows[0])] / len(rows)


def _sample_rows(sample: bytes, dialect: Dialect) -> list[list[str]]:
    """The first records of a sample, without the last one, which may be incomplete."""
    text = sample.decode("utf-8", "replace")
    if dialect.comment:
        text = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(dialect.comment))
    rows = dialect.fields(text)
    return (rows if len(sample) < SAMPLE_BYTES or len(rows) < 2 else rows[:-1])[:SAMPLE_RECORDS]


def _has_backslash_escapes(head: bytes, dialect: Dialect) -> bool:
    """Whether quotes inside quoted fields are escaped with a backslash: whether this reading misplaces fewer quotes."""
    if not dialect.quote or dialect.quote == "\\" or b"\\" + dialect.quote.encode() not in head:
        return False
    escaped = re.sub(rb"\\[\\" + re.escape(dialect.quote.encode()) + rb"]", b"xx", head)
    counts = []
    for text in (head, escaped):
        delimiters = "".join(DELIMITERS) + dialect.delimiter
        wrong, _ = misplaced_quotes(np.frombuffer(text, np.uint8), 0, b"\n", b"\n", delimiters, dialect.quote)
        counts.append(int(wrong.sum()))
    return counts[1] < counts[0]


def _names(header: list[str], spec: SourceSpec, path: str) -> tuple[str, ...]:
    names = [name or f"column_{i}" for i, name in enumerate(header)]
    twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if spec.columns is not None:
        twice = [name for name in twice if name in spec.columns]
    if twice:
        raise UnreadableSource(
            f"{path}: column {twice[0]!r} occurs twice in the header; rename one, or leave it out with source.columns"
        )
    # A name that is not selected may occur twice, but Arrow needs unique names.
    return tuple(name if names.index(name) == i else f"{name}\0{i}" for i, name in enumerate(names))


def _numbered(first: list[str], spec: SourceSpec, path: str) -> tuple[str, ...]:
    names = tuple(f"column_{i}" for i in range(len(first)))
    if spec.columns is None or all(name in names for name in spec.columns):
        return names
    if len(spec.columns) != len(first):
        raise UnreadableSource(
            f"source.columns names {len(spec.columns)} columns and the first record of {path} has {len(first)} "
            f"fields; with source.header: false name all of them, or select among {', '.join(names)}"
        )
    return tuple(spec.columns)


def _refuse_one_column(header: list[str], rows: list[list[str]], sample: bytes, dialect: Dialect, path: str) -> None:
    """Refuse a header of one column if another delimiter splits the header and all records into equally many fields."""
    if len(header) != 1 or len(rows) < 2:
        return
    for other in (*DELIMITERS, *OTHER_DELIMITERS):
        if other == dialect.delimiter or other not in header[0]:
            continue
        if _agreement(_sample_rows(sample, replace(dialect, delimiter=other))) == 1:
            shown = "\\t" if other == "\t" else other if other.isprintable() else f"\\x{ord(other):02x}"
            raise UnreadableSource(
                f"{path}: with the delimiter {dialect.delimiter!r} its header {header[0]!r} is one column; "
                f'set source.delimiter: "{shown}"'
            )
