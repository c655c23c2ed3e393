"""The columns of a table in its data files: a file may be older than a new name, a new type or a new column."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs.source.formats import cells

# Where Parquet files have the id of a field.
FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True)
class Column:
    """A column of a table, and how it is found in a data file.

    Attributes:
        field: name and type in the table.
        key: name in data files (Delta), or id of the field there (Iceberg).
        children: fields of a struct; the element of a list; key and value of a map.
        default: value in files that do not have the column.
    """

    field: pa.Field
    key: str | int
    children: tuple[Column, ...] = ()
    default: Any = None


def plain(type_: pa.DataType) -> pa.DataType:
    """The type as other sources have it: 32-bit offsets, no ids and no names of list elements of its format."""
    if pa.types.is_large_string(type_):
        return pa.string()
    if pa.types.is_large_binary(type_):
        return pa.binary()
    if pa.types.is_struct(type_):
        return pa.struct([pa.field(field.name, plain(field.type), field.nullable) for field in type_])
    if pa.types.is_map(type_):
        return pa.map_(plain(type_.key_type), plain(type_.item_type))
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return pa.list_(pa.field("element", plain(type_.value_type), type_.value_field.nullable))
    return cells.plain(type_)


def inside(type_: pa.DataType) -> list[pa.Field]:
    """The fields inside a nested type: those of a struct, the element of a list, key and value of a map."""
    if pa.types.is_struct(type_):
        return [type_.field(i) for i in range(type_.num_fields)]
    if pa.types.is_map(type_):
        return [type_.key_field, type_.item_field]
    return [type_.value_field] if pa.types.is_list(type_) or pa.types.is_large_list(type_) else []


def renamed(names: Collection[str]) -> str:
    """A hash of the columns whose names stand for other fields than once; empty if there are none.

    Args:
        names: each with the field that it stands for now.
    """
    return hashlib.blake2b("\0".join(sorted(names)).encode(), digest_size=8).hexdigest() if names else ""


def names(columns: Sequence[Column], schema: pa.Schema, ids: Mapping[str, int]) -> dict[str, str]:
    """Column of the table -> its name in a data file; columns that the file does not have are left out.

    Args:
        columns: of the table.
        schema: of the file, with the ids of its fields.
        ids: path of a field -> id, for files without ids.
    """
    there: dict[str | int | None, str] = {field.name: field.name for field in schema}
    there |= {_key(field, field.name, ids): field.name for field in schema}
    found = ((each, there.get(each.key)) for each in columns)
    return {each.field.name: name for each, name in found if name is not None}


def conform(
    batch: pa.RecordBatch,
    schema: pa.Schema,
    columns: Sequence[Column],
    ids: Mapping[str, int],
    values: Mapping[str, Any],
) -> pa.RecordBatch:
    """A batch of a data file with the columns of the table, nested fields included.

    Types of values are not converted here: a value that does not fit its type is found row by row later.

    Args:
        batch: rows of the file.
        schema: of the file, with the ids of its fields.
        columns: of the table, in the wanted order.
        ids: path of a field -> id, for files without ids.
        values: column -> its value in all rows if the file does not have it: its partition value.
    """
    here = names(columns, schema, ids)
    arrays, fields = [], []
    for column in columns:
        name = column.field.name
        if name in here:
            array = _conformed(batch.column(here[name]), schema.field(here[name]), column, ids, here[name])
        else:
            array = filled(values.get(name, column.default), column.field.type, len(batch))
        arrays.append(array)
        fields.append(pa.field(name, array.type))
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))


def filled(value: Any, type_: pa.DataType, rows: int) -> pa.Array:
    """One value for all rows."""
    return pa.nulls(rows, type_) if value is None else pa.repeat(pa.scalar(value, type_), rows)


def _conformed(array: pa.Array, found: pa.Field, column: Column, ids: Mapping[str, int], path: str) -> pa.Array:
    if not column.children or _is_same(found, column, ids, path):
        return array
    if pa.types.is_struct(found.type):
        there = {key: i for i, (key, _, _) in enumerate(_fields(found, column, ids, path))}
        arrays, fields = [], []
        for child in column.children:
            if (i := there.get(child.key)) is None:
                values = filled(child.default, child.field.type, len(array))
            else:
                field = found.type.field(i)
                values = _conformed(array.field(i), field, child, ids, f"{path}.{field.name}")
            arrays.append(values)
            fields.append(pa.field(child.field.name, values.type))
        return pa.StructArray.from_arrays(arrays, fields=fields, mask=array.is_null())
    # A copy, because offsets of a slice are not accepted together with a mask.
    offsets, mask = pa.concat_arrays([array.offsets.take(pa.array(range(len(array) + 1)))]), array.is_null()
    if pa.types.is_map(found.type):
        key, value = column.children
        keys = _conformed(array.keys, found.type.key_field, key, ids, f"{path}.key")
        items = _conformed(array.items, found.type.item_field, value, ids, f"{path}.value")
        return pa.MapArray.from_arrays(offsets, keys, items, mask=mask)
    (element,) = column.children
    values = _conformed(array.values, found.type.value_field, element, ids, f"{path}.element")
    kind = pa.LargeListArray if pa.types.is_large_list(found.type) else pa.ListArray
    return kind.from_arrays(offsets, values, mask=mask)


def _is_same(found: pa.Field, column: Column, ids: Mapping[str, int], path: str) -> bool:
    """Whether a nested column of a file has the fields of the table under the same names, in the same order."""
    if not column.children:
        return True
    there = list(_fields(found, column, ids, path))
    if pa.types.is_struct(found.type) and [(key, field.name) for key, field, _ in there] != [
        (child.key, child.field.name) for child in column.children
    ]:
        return False
    return all(_is_same(field, child, ids, at) for (_, field, at), child in zip(there, column.children, strict=True))


def _fields(
    found: pa.Field, column: Column, ids: Mapping[str, int], path: str
) -> Iterator[tuple[str | int | None, pa.Field, str]]:
    """The fields inside a nested column of a file: (key, field, path)."""
    if pa.types.is_struct(found.type):
        by_id = any(isinstance(child.key, int) for child in column.children)
        for field in found.type:
            at = f"{path}.{field.name}"
            yield _key(field, at, ids) if by_id else field.name, field, at
    elif pa.types.is_map(found.type):
        yield None, found.type.key_field, f"{path}.key"
        yield None, found.type.item_field, f"{path}.value"
    else:
        yield None, found.type.value_field, f"{path}.element"


def _key(field: pa.Field, path: str, ids: Mapping[str, int]) -> int | None:
    said = (field.metadata or {}).get(FIELD_ID)
    return ids.get(path) if said is None else int(said)
