"""Cells of Parquet and Arrow files: converted to types that all Arrow functions support, and checked.

A row is rejected if a string in it is not UTF-8, or if a value does not fit the type of its column over all files.
Other rows are not affected.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.source.shard import BadRow

# What Arrow raises for a value that does not fit its type, or that has no cast to it, and Python for invalid UTF-8.
ERRORS = (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError, UnicodeDecodeError)


@dataclass(frozen=True)
class _Bad:
    """The error of one cell."""

    error_type: str
    message: str
    raw: str | None


def plain_schema(schema: pa.Schema) -> pa.Schema:
    """The columns of a file with plain types, without metadata."""
    return pa.schema([pa.field(each.name, plain(each.type), each.nullable) for each in schema])


def plain(type_: pa.DataType, inside: bool = False) -> pa.DataType:
    """An equivalent type that Arrow's functions and Parquet support.

    Views become strings, binaries and lists; lists of fixed size become lists; run-end encoded values, extension types,
    and dictionaries inside other types become their value or storage type. List views inside other types do not change.
    """
    if isinstance(type_, pa.BaseExtensionType):
        return plain(type_.storage_type, inside)
    if pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_binary_view(type_):
        return pa.binary()
    if pa.types.is_run_end_encoded(type_):
        return plain(type_.value_type, inside)
    if pa.types.is_dictionary(type_):
        value = plain(type_.value_type, inside)
        return value if inside else pa.dictionary(pa.int32(), value, type_.ordered)
    if pa.types.is_struct(type_):
        return pa.struct([_plain_field(type_.field(i)) for i in range(type_.num_fields)])
    if pa.types.is_map(type_):
        return pa.map_(_plain_field(type_.key_field), _plain_field(type_.item_field), type_.keys_sorted)
    if pa.types.is_large_list(type_):
        return pa.large_list(_plain_field(type_.value_field))
    if pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_) or (_is_view(type_) and not inside):
        return pa.list_(_plain_field(type_.value_field))
    return type_


def checked(batch: pa.RecordBatch, schema: pa.Schema, first: int | None) -> Iterator[pa.RecordBatch | BadRow]:
    """Convert the columns of a batch to the types of a schema; rows with a bad cell become BadRows.

    Args:
        batch: a batch of a file.
        schema: columns of the source; those that the batch does not have are left out.
        first: the number of the batch's first row in its file, from 1; None if unknown.
    """
    planned = {field.name: field for field in schema}
    fields = [planned[name] for name in batch.schema.names if name in planned]
    columns: list[pa.Array] = []
    bad: dict[int, tuple[str, _Bad]] = {}
    for field in fields:
        column = batch.column(field.name)
        try:
            columns.append(_typed(column, field.type))
        except ERRORS:
            mended, cells = _mended(column, field.type)
            columns.append(mended)
            bad |= {row: (field.name, cell) for row, cell in cells.items() if row not in bad}
    whole = pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields)) if fields else batch.select([])
    start = 0
    for row, (name, cell) in sorted(bad.items()):
        if row > start:
            yield whole.slice(start, row - start)
        values = whole.slice(row, 1)
        number = None if first is None else first + row
        yield BadRow(cell.error_type, f"{name}: {cell.message}", cell.raw, number, name, values)
        start = row + 1
    if start < len(whole) or not bad:
        yield whole.slice(start)


def _is_view(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list_view(type_) or pa.types.is_large_list_view(type_))


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(plain(field.type, inside=True))


def _typed(column: pa.Array, type_: pa.DataType) -> pa.Array:
    """Convert a column to a type.

    Raises:
        ArrowInvalid: a value does not fit, or a string is not UTF-8.
    """
    array = _stored(column)
    if array.type != type_:
        array = array.cast(type_)
    if _has_text(type_) and not _is_ascii(array):
        array.validate(full=True)
    return array


def _is_ascii(array: pa.Array) -> bool:
    """Whether all text is ASCII; ten times as fast as a check for UTF-8. False if unknown."""
    type_ = array.type
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        _, offsets, data = array.buffers()
        if data is None or not len(array):
            return True
        ends = np.frombuffer(offsets, np.int32 if pa.types.is_string(type_) else np.int64)
        used = np.frombuffer(data, np.uint8)[ends[array.offset] : ends[array.offset + len(array)]]
        return not len(used) or bool(used.max() < 128)
    if pa.types.is_dictionary(type_):
        return _is_ascii(array.dictionary)
    if pa.types.is_struct(type_):
        return all(_is_ascii(array.field(i)) for i in range(type_.num_fields))
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return _is_ascii(array.values)
    return not _has_text(type_)


def _stored(column: pa.Array) -> pa.Array:
    """The column without encodings that cannot be cast."""
    if isinstance(column.type, pa.BaseExtensionType):
        return _stored(column.storage)
    if pa.types.is_run_end_encoded(column.type):
        return _stored(pc.run_end_decode(column))
    if _is_view(column.type):
        # A cast loses values if the lists are not stored in order (pyarrow 25).
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
        return pa.ListArray.from_arrays(offsets, column.flatten(), mask=column.is_null())
    if pa.types.is_dictionary(column.type) and column.type.value_type != (value := plain(column.type.value_type)):
        return pa.DictionaryArray.from_arrays(
            column.indices, column.dictionary.cast(value), ordered=column.type.ordered
        )
    return column


def _mended(column: pa.Array, type_: pa.DataType) -> tuple[pa.Array, dict[int, _Bad]]:
    """The column with null for each bad cell, and the errors of those cells by row."""
    bad: dict[int, _Bad] = {}
    pieces: list[pa.Array] = []
    value_type = type_.value_type if pa.types.is_dictionary(type_) else type_
    # A dictionary can only be checked as a whole, so it is decoded first.
    if pa.types.is_dictionary(column.type):
        indices = column.indices
        column = column.dictionary
        entries, broken = _mended(column, value_type)
        bad = {row: broken[i] for row, i in enumerate(indices.to_pylist()) if i in broken}
        return _encoded(entries.take(indices), type_), bad

    column = _stored(column)
    with suppress(*ERRORS):
        # Strings are read as binary, so that each cell is checked on its own.
        column = column.cast(_bytes(plain(column.type)))

    def walk(start: int, stop: int) -> None:
        piece = column.slice(start, stop - start)
        try:
            pieces.append(_typed(_compact(piece), value_type))
        except ERRORS as error:
            if stop - start == 1:
                bad[start] = _explained(piece, value_type, error)
                pieces.append(pa.nulls(1, value_type))
                return
            middle = (start + stop) // 2
            walk(start, middle)
            walk(middle, stop)

    walk(0, len(column))
    whole = pa.concat_arrays(pieces) if pieces else pa.nulls(0, value_type)
    return _encoded(whole, type_), bad


def _encoded(values: pa.Array, type_: pa.DataType) -> pa.Array:
    return values.dictionary_encode().cast(type_) if pa.types.is_dictionary(type_) else values


def _compact(piece: pa.Array) -> pa.Array:
    """The piece without child values of other rows, which would otherwise be checked too."""
    return piece.take(pa.array(range(len(piece)), pa.int64())) if pa.types.is_nested(piece.type) else piece


def _bytes(type_: pa.DataType) -> pa.DataType:
    """The type with binary for each string, except in maps: casting a map with a bad key aborts pyarrow 25."""
    if pa.types.is_string(type_):
        return pa.binary()
    if pa.types.is_large_string(type_):
        return pa.large_binary()
    if pa.types.is_struct(type_):
        return pa.struct([each.with_type(_bytes(each.type)) for each in type_])
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_bytes(type_.value_type)))
    if pa.types.is_large_list(type_):
        return pa.large_list(type_.value_field.with_type(_bytes(type_.value_type)))
    return type_


def _explained(piece: pa.Array, type_: pa.DataType, error: Exception) -> _Bad:
    raw = None
    if "UTF8" in str(error) or "utf-8" in str(error):
        if pa.types.is_binary(piece.type) or pa.types.is_large_binary(piece.type):
            raw = piece[0].as_py().decode("utf-8", "backslashreplace")
        return _Bad("InvalidUTF8", "the text is not UTF-8", raw)
    try:
        raw = str(piece[0].as_py())
    except (ValueError, OverflowError, pa.ArrowException):
        raw = str(piece.cast(pa.int64())[0].as_py()) if pa.types.is_temporal(piece.type) else None
    shown = "the value" if raw is None else raw if len(raw) <= 80 else f"{raw[:79]}…"
    return _Bad("InvalidValue", f"{shown} is {piece.type} and does not fit {type_}", raw)


def _has_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        return _has_text(type_.value_type)
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        return True
    return pa.types.is_nested(type_) and any(_has_text(type_.field(i).type) for i in range(type_.num_fields))
