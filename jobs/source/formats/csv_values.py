"""Converts CSV cells to the types of their columns; a cell that does not fit rejects its row, other cells are kept.

If `source.types` does not name a column, its type is guessed from the head of the file: int64, double or bool if every
cell, converted and printed again, is exactly as it is written, else text (`01234`, `1E5`, `1.10`, `+5`, `True`, 20
digits, dates and times). An empty cell is null in such a column. Dates are text, as in JSON lines, so that a later cell
such as `soon` does not reject its row.

A later cell that does not print back identically makes a rejected row; the message names the column and `source.types`.
The alternatives were to scan every file at planning, which reads a lake twice, or to make every column text, so that no
lake has numbers. Reading a file of 200 MB (1.2 million rows) takes as long with the check as without it.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from jobs.source.shard import BadRow

# Lists, because the first array that pyarrow makes of one imports pandas, which takes 0.2 s.
NULLS = pyarrow.csv.ConvertOptions().null_values
GUESSES = (pa.int64(), pa.float64(), pa.bool_())
# Python prints doubles outside of this range with an exponent.
PLAIN_DOUBLES = (1e-4, 1e16)
# Length of 15 digits and a point.
SAFE_CHARACTERS = 16
BOOLS = ["true", "false"]
# Maximum length of a rejected row's `raw` text.
RAW_CHARACTERS = 64 << 10
SHOWN_CHARACTERS = 80


def guess(cells: pa.Array) -> pa.DataType:
    """Guess the type of a column: the first type in which every cell prints back identically, else string.

    A column of which all cells are empty says nothing: its type is null.

    Args:
        cells: the column's cells in the head of the file, binary.
    """
    try:
        text = cells.cast(pa.string())
    except pa.ArrowInvalid:
        # Some bytes are not UTF-8: the column is text, with bad rows.
        return pa.string()
    if not pc.any(pc.not_equal(pc.binary_length(text), 0)).as_py():
        return pa.null()
    for type_ in GUESSES:
        try:
            _exact(text, type_)
        except pa.ArrowInvalid:
            continue
        return type_
    return pa.string()


def convert(
    batch: pa.RecordBatch, numbers: Sequence[int], schema: pa.Schema, named: Collection[str], delimiter: str
) -> Iterator[pa.RecordBatch | BadRow]:
    """Convert cells to values; rows with a cell that does not fit its column's type become BadRows.

    Args:
        batch: binary columns.
        numbers: record number of each row in its file.
        schema: the types of the columns.
        named: columns with a type set in `source.types`; their cells need not print back identically (double `1.50`).
        delimiter: for the text of a rejected row.
    """
    fields = [schema.field(name) for name in batch.schema.names]
    columns: list[pa.Array] = []
    wrong: dict[int, list[int]] = {}
    for i, (field, cells) in enumerate(zip(fields, batch.columns, strict=True)):
        values, rows = _cells(cells, field.type, field.name in named)
        columns.append(values)
        for row in rows:
            wrong.setdefault(row, []).append(i)
    converted = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    if not wrong:
        yield converted
        return
    good = np.ones(len(batch), bool)
    good[list(wrong)] = False
    yield converted.filter(pa.array(good))
    for row, at in sorted(wrong.items()):
        cells = [column[row].as_py() for column in batch.columns]
        kept = [name for i, name in enumerate(batch.schema.names) if i not in at]
        kind, message = _complaint(fields[at[0]], cells[at[0]], fields[at[0]].name in named)
        values = converted.select(kept).slice(row, 1) if kept else None
        yield BadRow(kind, message, shown(cells, delimiter), numbers[row], fields[at[0]].name, values)


def shown(cells: Sequence[bytes], delimiter: str) -> str:
    """A record as CSV text; bytes that are not UTF-8 are escaped."""
    line = io.StringIO()
    texts = [cell[:RAW_CHARACTERS].decode("utf-8", "backslashreplace") for cell in cells]
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(texts)
    return cut(line.getvalue())


def cut(raw: str) -> str:
    """The beginning of a record that is too long for a rejected row."""
    return raw if len(raw) <= RAW_CHARACTERS else f"{raw[:RAW_CHARACTERS]}... ({len(raw):,} characters)"


def _cells(cells: pa.Array, type_: pa.DataType, is_named: bool) -> tuple[pa.Array, list[int]]:
    """The values, with null for each cell that does not fit, and the rows of those cells."""
    try:
        return _values(cells.cast(pa.string()), type_, is_named), []
    except pa.ArrowInvalid:
        if len(cells) == 1:
            return pa.nulls(1, _target(type_)), [0]
    middle = len(cells) // 2
    first, wrong = _cells(cells.slice(0, middle), type_, is_named)
    second, more = _cells(cells.slice(middle), type_, is_named)
    return pa.concat_arrays([first, second]), [*wrong, *(middle + row for row in more)]


def _target(type_: pa.DataType) -> pa.DataType:
    """The type that cells are converted to; all string types are read as string and cast later, as in other formats."""
    is_text = pa.types.is_dictionary(type_) or pa.types.is_string_view(type_) or pa.types.is_large_string(type_)
    return pa.string() if is_text else type_


def _values(text: pa.Array, type_: pa.DataType, is_named: bool) -> pa.Array:
    if pa.types.is_string(_target(type_)):
        return text
    return _lenient(text, type_) if is_named or type_ not in GUESSES else _exact(text, type_)


def _exact(text: pa.Array, type_: pa.DataType) -> pa.Array:
    """Convert text to values that print back identically; empty cells are null.

    Raises:
        ArrowInvalid: a value does not print back identically.
    """
    lengths = pc.binary_length(text)
    if pc.min(lengths).as_py() == 0:
        text = pc.if_else(pc.equal(lengths, 0), pa.scalar(None, pa.string()), text)
    if pa.types.is_boolean(type_):
        prints_back = pc.all(pc.is_in(text.drop_null(), pa.array(BOOLS))).as_py() is not False
        return _checked(text.cast(type_), prints_back)
    values = text.cast(type_)
    filled = text.drop_null()
    if not len(filled):
        return values
    if pa.types.is_integer(type_):
        return _checked(values, _are_printed_integers(filled))
    return _checked(values, _are_printed_doubles(filled, values.drop_null()))


def _checked(values: pa.Array, prints_back: bool) -> pa.Array:
    if not prints_back:
        raise pa.ArrowInvalid("a value that does not print back")
    return values


def _are_printed_integers(text: pa.Array) -> bool:
    """Whether no integer is written with `+`, `-0` or leading zeros; 3 times as fast as printing them."""
    starts, stops, data = _bytes(text)
    first = data[starts]
    if ((first == ord("0")) & (stops - starts > 1)).any():
        return False
    return not (data[starts[first == ord("-")] + 1] == ord("0")).any()


def _are_printed_doubles(text: pa.Array, values: pa.Array) -> bool:
    """Whether every double is written as Python prints it: the shortest form, with a point, without an exponent."""
    starts, stops, data = _bytes(text)
    body = data[starts[0] : stops[-1]].tobytes()
    # Each text is a number, so it has at most one point; as many points as texts means that each text has one.
    if body.count(b".") != len(text) or any(mark in body for mark in (b"e", b"E", b"+")):
        return False
    low, high = PLAIN_DOUBLES
    size = np.abs(values.to_numpy())
    if not ((size == 0) | ((size >= low) & (size < high))).all():
        return False
    after_sign = starts + (data[starts] == ord("-"))
    first, last = data[after_sign], data[stops - 1]
    if (first == ord(".")).any() or (last == ord(".")).any():
        return False
    if ((first == ord("0")) & (data[after_sign + 1] != ord("."))).any():
        return False
    if ((last == ord("0")) & (data[stops - 2] != ord("."))).any():
        return False
    # Up to 15 digits always print back identically; longer numbers are printed to check, which takes 5 times as long.
    long = stops - starts > SAFE_CHARACTERS
    if not long.any():
        return True
    texts, doubles = text.filter(pa.array(long)).to_pylist(), values.filter(pa.array(long)).to_pylist()
    return all(repr(double) == one for one, double in zip(texts, doubles, strict=True))


def _bytes(text: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Byte offsets of the start and the end of each text, and the bytes of all texts."""
    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return ends[:-1], ends[1:], np.frombuffer(data, np.uint8)


def _lenient(text: pa.Array, type_: pa.DataType) -> pa.Array:
    """Convert text to a type set in `source.types`: white space around values is ignored, NA and the like are null.

    Raises:
        ArrowInvalid: a cell is not a value of the type.
    """
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return text.cast(type_)
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, pa.array(NULLS)), pa.scalar(None, pa.string()), text)
    try:
        if pa.types.is_boolean(type_):
            return pc.utf8_lower(text).cast(type_)
        if pa.types.is_time(type_):
            # Arrow cannot cast text to a time of day.
            moment = pc.binary_join_element_wise("1970-01-01", text, " ").cast(pa.timestamp(type_.unit))
            return moment.cast(type_)
        values = text.cast(type_)
    except pa.ArrowNotImplementedError as error:
        # Arrow has no cast from text to this type, so that no cell is a value of it.
        raise pa.ArrowInvalid(str(error)) from error
    if pa.types.is_floating(type_):
        infinite = pc.and_(pc.is_inf(values), pc.match_substring_regex(text, r"^[-+]?[0-9.]"))
        if pc.any(infinite).as_py():
            raise pa.ArrowInvalid("a number too large for the type")
    return values


def _complaint(field: pa.Field, cell: bytes, is_named: bool) -> tuple[str, str]:
    """The error type and the message for a cell."""
    try:
        value = cell.decode()
    except UnicodeDecodeError as error:
        found = f"column {field.name!r}: byte {error.object[error.start]:#04x} at {error.start} is not UTF-8"
        return "InvalidUTF8", f"{found}; if the file has another encoding, set source.encoding, such as cp1252"
    value = repr(value if len(value) <= SHOWN_CHARACTERS else value[: SHOWN_CHARACTERS - 3] + "...")
    fault = f"is not a value of type {field.type}" if is_named else f"would not be kept exactly as {field.type}"
    fix = f"set source.types: {{{field.name}: string}} to read the column as text"
    return "InvalidValue", f"column {field.name!r}: {value} {fault}; {fix}"
