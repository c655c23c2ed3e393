"""Arrow types as a table format can hold them: the columns of a table that Arrow columns become."""

from __future__ import annotations

import pyarrow as pa

from transforms.errors import SpecError

# Unsigned integers, which neither format has, become the next larger signed type.
_WIDER = {pa.uint8(): pa.int16(), pa.uint16(): pa.int32(), pa.uint32(): pa.int64(), pa.uint64(): pa.decimal128(20, 0)}
_ICEBERG_INTEGERS = {pa.int8(), pa.int16(), pa.int32(), pa.uint8(), pa.uint16()}


def storable(schema: pa.Schema, is_delta: bool) -> pa.Schema:
    """The columns with types that the table has; values are cast when a part file is written.

    Timestamps have microseconds in both formats.

    Args:
        schema: columns of the rows.
        is_delta: Delta Lake, otherwise Iceberg.

    Raises:
        SpecError: a column has no type there.
    """
    kind = "Delta Lake" if is_delta else "Iceberg"
    fields, wrong = [], []
    for field in schema:
        found = _type(field.type, is_delta)
        if found is None:
            wrong.append(f"{field.name!r} ({field.type})")
        else:
            fields.append(pa.field(field.name, found))
    if wrong:
        raise SpecError(
            f"sink.table: {kind} cannot hold {', '.join(wrong)}; leave such columns out with source.columns, or "
            f"convert them with source.types or source.prepare"
        )
    lower = [name.lower() for name in schema.names]
    if twice := [name for name in schema.names if lower.count(name.lower()) > 1]:
        raise SpecError(
            f"sink.table: readers of {kind} do not distinguish {', '.join(map(repr, twice))}, which differ in case "
            f"only; leave one of them out with source.columns, or rename it with source.prepare"
        )
    return pa.schema(fields, schema.metadata)


def refuse_other_types(schema: pa.Schema, table: pa.Schema, url: str) -> None:
    """Refuse rows whose columns have other types than those of the same names in an existing table.

    Raises:
        SpecError: with the first such column and both types.
    """
    for field in schema:
        if (i := table.get_field_index(field.name)) < 0:
            continue
        there = _plain(table.field(i).type)
        if there != _plain(field.type):
            raise SpecError(
                f"column {field.name!r} is {field.type} in the rows of this job and {there} in {url}; "
                f"set source.types or another name (into), or write to another table"
            )


def _type(type_: pa.DataType, is_delta: bool) -> pa.DataType | None:
    """The type in the table; None if it has none."""
    types = pa.types
    if type_ in _WIDER:
        return pa.int32() if not is_delta and type_ in _ICEBERG_INTEGERS else _WIDER[type_]
    if not is_delta and type_ in _ICEBERG_INTEGERS:
        return pa.int32()
    if types.is_float16(type_):
        return pa.float32()
    if types.is_null(type_) or types.is_string(type_) or types.is_large_string(type_) or types.is_string_view(type_):
        return pa.string()
    if types.is_large_binary(type_) or types.is_binary_view(type_) or (is_delta and types.is_fixed_size_binary(type_)):
        return pa.binary()
    if types.is_timestamp(type_):
        return pa.timestamp("us", None if type_.tz is None else "UTC")
    if types.is_date(type_):
        return pa.date32()
    if types.is_time(type_):
        return None if is_delta else pa.time64("us")
    if types.is_dictionary(type_):
        return _type(type_.value_type, is_delta)
    if types.is_decimal(type_):
        return pa.decimal128(type_.precision, type_.scale) if type_.precision <= 38 and type_.scale >= 0 else None
    if types.is_map(type_):
        inner = _type(type_.key_type, is_delta), _type(type_.item_type, is_delta)
        return None if None in inner else pa.map_(*inner)
    if types.is_struct(type_):
        fields = [(field.name, _type(field.type, is_delta)) for field in type_]
        return None if not fields or any(found is None for _, found in fields) else pa.struct(fields)
    if types.is_list(type_) or types.is_large_list(type_) or types.is_fixed_size_list(type_):
        inner_type = _type(type_.value_type, is_delta)
        return None if inner_type is None else pa.list_(inner_type)
    known = types.is_boolean(type_) or types.is_integer(type_) or types.is_floating(type_)
    return type_ if known or types.is_binary(type_) or types.is_fixed_size_binary(type_) else None


def _plain(type_: pa.DataType) -> pa.DataType:
    """The type without what two libraries name differently: names of list items, large offsets, nullability."""
    types = pa.types
    if types.is_large_string(type_) or types.is_string_view(type_):
        return pa.string()
    if types.is_large_binary(type_):
        return pa.binary()
    if types.is_list(type_) or types.is_large_list(type_):
        return pa.list_(_plain(type_.value_type))
    if types.is_struct(type_):
        return pa.struct([(field.name, _plain(field.type)) for field in type_])
    if types.is_map(type_):
        return pa.map_(_plain(type_.key_type), _plain(type_.item_type))
    return type_
