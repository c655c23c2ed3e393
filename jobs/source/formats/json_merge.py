"""One type for a JSON key that has several: those of two files, or that of finished rows and that of a new file.

Where types have nothing in common, the key becomes JSON text at that level.
"""

from __future__ import annotations

from collections.abc import Collection

import pyarrow as pa

from jobs.source.formats.json_marks import any_text, is_any, nested


def merge(one: pa.Field, other: pa.Field) -> pa.Field:
    """One column for a key of two files; JSON text where one type does not hold the values of both exactly."""
    if pa.types.is_null(one.type):
        return other
    if pa.types.is_null(other.type):
        return one
    if _are_alike(one.type, other.type):
        return _merged(one, other)
    if one.type == other.type and not is_any(one) and not is_any(other):
        return one
    found: list[pa.Field] = []
    for each in (*nested(one), *nested(other)):
        at = next((i for i, there in enumerate(found) if _are_alike(there.type, each.type)), None)
        if at is None:
            found.append(each)
        else:
            found[at] = _merged(found[at], each)
    return any_text(one.name, found)


def settled(each: pa.Field) -> pa.Field:
    """The field with JSON text for keys of unknown type: those that are null, `{}` or `[]` everywhere."""
    type_ = each.type
    if pa.types.is_struct(type_) and type_.num_fields:
        return each.with_type(pa.struct([settled(type_.field(i)) for i in range(type_.num_fields)]))
    if pa.types.is_list(type_):
        return each.with_type(pa.list_(settled(type_.value_field)))
    return any_text(each.name) if pa.types.is_null(type_) or pa.types.is_struct(type_) or is_any(each) else each


def with_structs(each: pa.Field, read: Collection[str], path: str) -> pa.Field:
    """The field, as a struct wherever a task reads a field of its objects; other values are then rejected.

    Args:
        each: the field.
        read: columns and `struct.field`s that tasks read.
        path: the field's path.
    """
    struct = next((one for one in nested(each) if pa.types.is_struct(one.type)), None)
    if struct is None or not reads_fields(read, path):
        return each
    return struct.with_type(pa.struct([with_structs(one, read, f"{path}.{one.name}") for one in struct.type]))


def kept(pinned: pa.Field, found: pa.Field, read: Collection[str], path: str) -> pa.Field:
    """The field of finished rows, with the keys that the files have in addition.

    A value that does not fit is rejected, except that a string takes JSON text of other values.

    Args:
        pinned: the field of finished rows.
        found: the field in the files.
        read: columns and `struct.field`s that tasks read; objects win over the type of finished rows where a field of
            them is read.
        path: the field's path.
    """
    same = next((one for one in nested(found) if _are_alike(one.type, pinned.type)), None)
    if same is not None and pa.types.is_list(same.type):
        return pinned.with_type(pa.list_(kept(pinned.type.value_field, same.type.value_field, read, path)))
    if same is not None:
        fields = {one.name: one for one in pinned.type}
        for one in same.type:
            before = fields.get(one.name)
            fields[one.name] = one if before is None else kept(before, one, read, f"{path}.{one.name}")
        return pinned.with_type(pa.struct(list(fields.values())))
    if pa.types.is_null(pinned.type) or (pa.types.is_struct(found.type) and reads_fields(read, path)):
        return found
    if pa.types.is_string(pinned.type) and (is_any(found) or not pa.types.is_string(found.type)):
        return any_text(pinned.name)
    return pinned


def reads_fields(read: Collection[str], path: str) -> bool:
    """Whether a field of the objects at a path is among `read`."""
    return any(each.startswith(f"{path}.") for each in read)


def _are_alike(one: pa.DataType, other: pa.DataType) -> bool:
    """Whether both types are structs, or both are lists."""
    return any(is_kind(one) and is_kind(other) for is_kind in (pa.types.is_struct, pa.types.is_list))


def _merged(one: pa.Field, other: pa.Field) -> pa.Field:
    """Two structs or two lists as one."""
    if pa.types.is_list(one.type):
        return one.with_type(pa.list_(merge(one.type.value_field, other.type.value_field)))
    fields = {each.name: each for each in one.type}
    for each in other.type:
        before = fields.get(each.name)
        fields[each.name] = each if before is None else merge(before, each)
    return one.with_type(pa.struct(list(fields.values())))
