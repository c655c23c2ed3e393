"""Cells of a CSV -> values of the columns' types; a cell that does not fit rejects its row, with the others kept.

The head of a file decides on the type of a column that nobody named: int64, double or bool if every cell prints back
exactly as it is written, else text (`01234`, `1E5`, `1.10`, `+5`, `True`, 20 digits, dates and times). An empty cell is
null in such a column. Dates are text as in JSON lines, so that a later `soon` is no reason to reject a row.

A later cell that does not print back is a rejected row that names the column and `source.types`. The other ways were to
scan every file at planning, which reads a lake twice, or to make every column text, which costs all lakes their numbers
for the sake of few. Reading a file of 200 MB (1.2 million rows) takes as long with the check as without.
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

NULLS = pa.array(pyarrow.csv.ConvertOptions().null_values)
GUESSES = (pa.int64(), pa.float64(), pa.bool_())
# repr has an exponent for other doubles than these.
PLAIN_DOUBLES = (1e-4, 1e16)
# 15 digits and a point.
SAFE_CHARACTERS = 16
BOOLS = pa.array(["true", "false"])
# A rejected row shows this much of itself.
RAW_CHARACTERS = 64 << 10
SHOWN_CHARACTERS = 80


def guess(cells: pa.Array) -> pa.DataType:
    """The type of a column by the cells of the head: one that prints back every cell, else string.

    Args:
        cells: binary.
    """
    try:
        text = cells.cast(pa.string())
    except pa.ArrowInvalid:
        # Bytes that are no UTF-8: text with bad rows.
        return pa.string()
    if not pc.any(pc.not_equal(pc.binary_length(text), 0)).as_py():
        return pa.string()
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
    """Cells -> values, and the rows with a cell that is no value of its column.

    Args:
        batch: binary columns.
        numbers: record number of each row in its file.
        schema: the types.
        named: columns whose type was asked for, so that a cell need not print back (`1.50` is a double there).
        delimiter: to show a rejected row with.
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
    """A record as it could be written in a file; bytes that are no UTF-8 escaped."""
    line = io.StringIO()
    texts = [cell[:RAW_CHARACTERS].decode("utf-8", "backslashreplace") for cell in cells]
    csv.writer(line, delimiter=delimiter, lineterminator="").writerow(texts)
    return cut(line.getvalue())


def cut(raw: str) -> str:
    """What a rejected row shows of a long record."""
    return raw if len(raw) <= RAW_CHARACTERS else f"{raw[:RAW_CHARACTERS]}... ({len(raw):,} characters)"


def _cells(cells: pa.Array, type_: pa.DataType, is_named: bool) -> tuple[pa.Array, list[int]]:
    """The values, null where a cell is none, and the rows of those."""
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
    """The type that cells are converted to; kinds of text are brought to their own form with all other formats."""
    is_text = pa.types.is_dictionary(type_) or pa.types.is_string_view(type_) or pa.types.is_large_string(type_)
    return pa.string() if is_text else type_


def _values(text: pa.Array, type_: pa.DataType, is_named: bool) -> pa.Array:
    if pa.types.is_string(_target(type_)):
        return text
    return _lenient(text, type_) if is_named or type_ not in GUESSES else _exact(text, type_)


def _exact(text: pa.Array, type_: pa.DataType) -> pa.Array:
    """Values that print back exactly; empty cells are null.

    Raises:
        ArrowInvalid: one does not.
    """
    lengths = pc.binary_length(text)
    if pc.min(lengths).as_py() == 0:
        text = pc.if_else(pc.equal(lengths, 0), pa.scalar(None, pa.string()), text)
    if pa.types.is_boolean(type_):
        prints_back = pc.all(pc.is_in(text.drop_null(), BOOLS)).as_py() is not False
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
    """Whether no text of an integer has a sign or a digit too many: 3 times as fast as printing."""
    starts, stops, data = _bytes(text)
    first = data[starts]
    if ((first == ord("0")) & (stops - starts > 1)).any():
        return False
    return not (data[starts[first == ord("-")] + 1] == ord("0")).any()


def _are_printed_doubles(text: pa.Array, values: pa.Array) -> bool:
    """Whether every text of a double is its shortest form with a point and without an exponent, as Python prints it."""
    starts, stops, data = _bytes(text)
    body = data[starts[0] : stops[-1]].tobytes()
    # Each text is a number, so that as many points as texts are one each.
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
    # Any 15 digits survive the way to a double and back; more have to be printed, which takes 5 times as long.
    long = stops - starts > SAFE_CHARACTERS
    if not long.any():
        return True
    texts, doubles = text.filter(pa.array(long)).to_pylist(), values.filter(pa.array(long)).to_pylist()
    return all(repr(double) == one for one, double in zip(texts, doubles, strict=True))


def _bytes(text: pa.Array) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where each text starts and stops, and the bytes of all."""
    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int32)[text.offset : text.offset + len(text) + 1]
    return ends[:-1], ends[1:], np.frombuffer(data, np.uint8)


def _lenient(text: pa.Array, type_: pa.DataType) -> pa.Array:
    """Values of a type that was asked for: white space around them does not count, and NA and the like are null.

    Raises:
        ArrowInvalid: a cell is no value of the type.
    """
    if pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        return text.cast(type_)
    text = pc.utf8_trim_whitespace(text)
    text = pc.if_else(pc.is_in(text, NULLS), pa.scalar(None, pa.string()), text)
    try:
        if pa.types.is_boolean(type_):
            return pc.utf8_lower(text).cast(type_)
        if pa.types.is_time(type_):
            # Arrow casts no text to a time of day.
            moment = pc.binary_join_element_wise("1970-01-01", text, " ").cast(pa.timestamp(type_.unit))
            return moment.cast(type_)
        values = text.cast(type_)
    except pa.ArrowNotImplementedError as error:
        raise pa.ArrowInvalid(str(error)) from error
    if pa.types.is_floating(type_):
        infinite = pc.and_(pc.is_inf(values), pc.match_substring_regex(text, r"^[-+]?[0-9.]"))
        if pc.any(infinite).as_py():
            raise pa.ArrowInvalid("a number too large for the type")
    return values


def _complaint(field: pa.Field, cell: bytes, is_named: bool) -> tuple[str, str]:
    """The kind of error, and the sentence about it."""
    try:
        value = cell.decode()
    except UnicodeDecodeError as error:
        found = f"column {field.name!r}: byte {error.object[error.start]:#04x} at {error.start} is not UTF-8"
        return "InvalidUTF8", f"{found}; if the file has another encoding, name it in source.encoding, such as cp1252"
    value = repr(value if len(value) <= SHOWN_CHARACTERS else value[: SHOWN_CHARACTERS - 3] + "...")
    message = f"column {field.name!r} is {field.type}, and {value} is not one"
    if not is_named:
        message += " that prints back exactly"
    return "InvalidValue", f"{message}; source.types: {{{field.name}: string}} keeps the text of all rows"
