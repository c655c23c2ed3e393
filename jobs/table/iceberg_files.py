"""What the manifests and schemas of an Iceberg table say of its files and columns, as every table here has it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast

import numpy as np
import pyarrow as pa
from pyiceberg import types
from pyiceberg.conversions import from_bytes
from pyiceberg.manifest import DataFile as Listed
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.transforms import IdentityTransform

from jobs.table import NONE_DELETED, DataFile
from jobs.table.columns import FIELD_ID, Column, inside, plain
from jobs.table.rows import identity

EPOCH = date(1970, 1, 1)


def data_file(
    listed: Listed, table: Table, schema: Schema, location: str, deleted: Mapping[str, np.ndarray]
) -> DataFile:
    """A data file as every table has it.

    Args:
        listed: its entry in a manifest.
        table: the table.
        schema: columns of the snapshot.
        location: folder of the table.
        deleted: location of a data file -> positions of its deleted rows.
    """
    gone = deleted.get(listed.file_path, NONE_DELETED)
    below = f"{path(location)}/"
    at = path(listed.file_path)
    return DataFile(
        name=listed.file_path,
        key=at.removeprefix(below).lstrip("/"),
        url=listed.file_path,
        size=listed.file_size_in_bytes,
        rows=listed.record_count - len(gone),
        partition=_partition(listed, table, schema),
        deletes=identity(gone),
        deleted=gone,
        bounds=_bounds(listed, schema),
    )


def _partition(listed: Listed, table: Table, schema: Schema) -> dict[str, Any]:
    """Column -> the value that all rows of the file have, by the partition spec that the file was written with."""
    found = {}
    for i, field in enumerate(table.specs()[listed.spec_id].fields):
        name = schema.find_column_name(field.source_id)
        if isinstance(field.transform, IdentityTransform) and name is not None:
            found[name] = _value(listed.partition[i], schema.find_type(name))
    return found


def _bounds(listed: Listed, schema: Schema) -> dict[str, tuple[Any, Any]]:
    """Column -> (least, greatest) value; only of types whose statistics are never cut short."""
    found = {}
    for field in schema.fields:
        least = (listed.lower_bounds or {}).get(field.field_id)
        greatest = (listed.upper_bounds or {}).get(field.field_id)
        # Of a column that was widened the file has the bytes of the old type.
        type_ = field.field_type
        if not isinstance(type_, types.IntegerType | types.LongType | types.DateType):
            continue
        width = 8 if isinstance(type_, types.LongType) else 4
        if least is not None and greatest is not None and len(least) == len(greatest) == width:
            pair = (from_bytes(type_, each) for each in (least, greatest))
            found[field.name] = cast(tuple[Any, Any], tuple(_value(each, type_) for each in pair))
    return found


def _value(value: Any, type_: Any) -> Any:
    """A value of a manifest in Python's types: manifests have dates and times as numbers."""
    if not isinstance(value, int) or isinstance(value, bool):
        return value
    if isinstance(type_, types.DateType):
        return EPOCH + timedelta(days=value)
    if isinstance(type_, types.TimestampType | types.TimestamptzType):
        zone = UTC if isinstance(type_, types.TimestamptzType) else None
        return datetime(1970, 1, 1, tzinfo=zone) + timedelta(microseconds=value)
    if isinstance(type_, types.TimeType):
        return (datetime(1970, 1, 1) + timedelta(microseconds=value)).time()
    return value


def column(field: pa.Field, schema: Schema) -> Column:
    """A column, known by the ids of its fields, which stay when a column is renamed."""
    number = int(field.metadata[FIELD_ID])
    default = schema.find_field(number).initial_default
    children = tuple(column(each, schema) for each in inside(field.type))
    return Column(pa.field(field.name, plain(field.type)), number, children, default)


def renamed_fields(table: Table, schema: Schema) -> set[str]:
    """Columns whose names have stood for another field, or whose fields have had another name: with their ids."""
    named = {(name, number) for each in table.schemas().values() for name, number in each._name_to_id.items()}
    changed = set()
    for name, number in schema._name_to_id.items():
        if any((one == name) != (id_ == number) for one, id_ in named):
            changed.add(f"{name}={number}")
    return changed


def ids(table: Table) -> dict[str, int]:
    """Path of a field -> id, of a table with files that other programs wrote."""
    mapping = table.name_mapping()
    named = {} if mapping is None else mapping._field_by_name
    return {name: field.field_id for name, field in named.items() if field.field_id is not None}


def path(location: str) -> str:
    """A location as other code opens it: a local one without its scheme."""
    return location.removeprefix("file://") if location.startswith("file:///") else location
