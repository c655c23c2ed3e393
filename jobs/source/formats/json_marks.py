"""Columns of JSON text: string columns that accept JSON values of any kind. Metadata of the field marks them."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

MARK = b"nightscribe.json"
# The types of the objects and of the lists among the values, as a serialized schema.
NESTED = b"nightscribe.json.nested"


def any_text(name: str, nested: Sequence[pa.Field] = ()) -> pa.Field:
    """A string column that accepts values of any kind; other values than strings are stored as JSON text.

    Args:
        name: name of the column.
        nested: the type of the objects among the values, and that of the lists, as far as they are known.
    """
    metadata = {MARK: b"any"}
    if nested:
        metadata[NESTED] = pa.schema(nested).serialize().to_pybytes()
    return pa.field(name, pa.string(), metadata=metadata)


def is_any(field: pa.Field) -> bool:
    """Whether a string column accepts values of any kind."""
    return field.metadata is not None and field.metadata.get(MARK) == b"any"


def nested(field: pa.Field) -> list[pa.Field]:
    """The type of the objects among the values of a column, and that of the lists, as far as they are known."""
    if pa.types.is_nested(field.type):
        return [field]
    found = (field.metadata or {}).get(NESTED)
    return [] if found is None else list(pa.ipc.read_schema(pa.py_buffer(found)))


def unmarked(field: pa.Field) -> pa.Field:
    """The field and its nested fields without the marks of `any_text`."""
    type_ = field.type
    if pa.types.is_struct(type_):
        field = field.with_type(pa.struct([unmarked(type_.field(i)) for i in range(type_.num_fields)]))
    elif pa.types.is_list(type_):
        field = field.with_type(pa.list_(unmarked(type_.value_field)))
    return field.remove_metadata() if is_any(field) else field
