"""Rejected rows as a table: the columns of the source, then the error of each row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from jobs.source import BadRow
from jobs.source.formats.cells import ERRORS
from transforms.contract import Failure

# Columns that a rejected file has after those of the source.
REJECT_FIELDS = [
    pa.field("_task", pa.string()),
    pa.field("_error_type", pa.string()),
    pa.field("_message", pa.string()),
    pa.field("_raw", pa.string()),
    pa.field("_row", pa.int64()),
    pa.field("_column", pa.string()),
]


def reject_schema(source: pa.Schema) -> pa.Schema:
    """Columns of a rejected file: those of the source, then REJECT_FIELDS.

    Where the source has one of these names, in any case, the added columns begin with `_nightscribe`.
    """
    taken = {name.lower() for name in source.names}
    prefix = "_nightscribe" if any(field.name in taken for field in REJECT_FIELDS) else ""
    while any(prefix + field.name in taken for field in REJECT_FIELDS):
        prefix = f"_{prefix}"
    return pa.schema([*source, *(field.with_name(prefix + field.name) for field in REJECT_FIELDS)])


def unreadable(bad: list[BadRow], source: pa.Schema) -> pa.RecordBatch | None:
    """Rows that could not be read, as rejected rows with the columns that could be read."""
    if not bad:
        return None
    columns = [_joined([_value(row.values, field) for row in bad], field.type) for field in source]
    about: list[Sequence[Any]] = [
        ["source"] * len(bad),
        [row.error_type for row in bad],
        [_encodable(row.message) for row in bad],
        [None if row.raw is None else _encodable(row.raw) for row in bad],
        [row.row for row in bad],
        [row.column for row in bad],
    ]
    return _rejected(columns, about, source)


def broken(batch: pa.RecordBatch, failures: Sequence[Failure], task: str, source: pa.Schema) -> pa.RecordBatch | None:
    """Rows of a batch that made a task fail, as rejected rows."""
    if not failures:
        return None
    rows = pa.array([failure.row for failure in failures], pa.int64())
    inputs = batch.select(source.names).take(rows)
    about: list[Sequence[Any]] = [
        [task] * len(rows),
        [failure.error_type for failure in failures],
        [_encodable(failure.message) for failure in failures],
        *[[None] * len(rows)] * 3,
    ]
    return _rejected(inputs.columns, about, source)


def _rejected(columns: list[pa.Array], about: Sequence[Sequence[Any]], source: pa.Schema) -> pa.RecordBatch:
    added = [pa.array(values, field.type) for values, field in zip(about, REJECT_FIELDS, strict=True)]
    return pa.RecordBatch.from_arrays([*columns, *added], schema=reject_schema(source))


def _value(values: pa.RecordBatch | None, field: pa.Field) -> pa.Array | None:
    """The one value of that column, in its type; None if it could not be read."""
    if values is None or (i := values.schema.get_field_index(field.name)) < 0:
        return None
    try:
        return values.column(i).cast(field.type)
    except ERRORS:
        return None


def _joined(values: list[pa.Array | None], type_: pa.DataType) -> pa.Array:
    if not any(value is not None for value in values):
        return pa.nulls(len(values), type_)
    one_null = pa.nulls(1, type_)
    return pa.concat_arrays([one_null if value is None else value for value in values])


def _encodable(text: str) -> str:
    """The text with lone surrogates escaped, since Arrow cannot hold them."""
    return text.encode("utf-8", "backslashreplace").decode()
