"""The columns that a task reads: they must exist and have the right type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa

from jobs.spec.task import TaskSpec
from transforms.errors import SpecError
from transforms.options import ColumnKind, column_kinds


def check(item: TaskSpec, i: int, schema: pa.Schema, place: str = "the source") -> None:
    """Refuse a task whose columns do not exist or have the wrong type.

    Args:
        item: the task.
        i: its number.
        schema: columns of the source and of the tasks before it.
        place: what has the columns, for messages.

    Raises:
        SpecError: says which column, and which columns would do.
    """
    types = dict(_columns(schema)) | dict(zip(schema.names, schema.types, strict=True))
    for column, wanted in column_kinds(item.options):
        if column not in types:
            raise SpecError(f"tasks.{i}: column {column!r} is not in {place}; {_told(types)}")
        if not _holds(type_ := types[column], wanted):
            right = [name for name, type_ in types.items() if _holds(type_, wanted)]
            raise SpecError(
                f"tasks.{i}: column {column!r} is {type_}, and {item.task} reads {wanted}; "
                f"{wanted} columns: {', '.join(right) or 'none'}"
            )
    if item.adapter_column is not None:
        _check_names(item.adapter_column, types, f"tasks.{i}.adapter_column", place)


def _told(columns: Iterable[str]) -> str:
    """The columns that there are; in quotes where a blank at an end of a name would not be seen."""
    shown = [name if name == name.strip() and name else repr(name) for name in columns]
    return f"columns: {', '.join(shown)}" if shown else "it has no columns: its files are empty"


def _check_names(column: str, columns: Mapping[str, pa.DataType], key: str, place: str) -> None:
    """Refuse a column that cannot hold the names of adapters.

    Raises:
        SpecError: the column does not exist, or holds neither texts nor whole numbers.
    """
    if column not in columns:
        raise SpecError(f"{key}: column {column!r} is not in {place}; {_told(columns)}")
    if not _holds_names(columns[column]):
        right = [name for name, type_ in columns.items() if _holds_names(type_)]
        raise SpecError(
            f"{key}: column {column!r} is {columns[column]}, and names of adapters are texts or whole numbers; "
            f"such columns: {', '.join(right) or 'none'}"
        )


def _holds_names(type_: pa.DataType) -> bool:
    """Whether a column of that Arrow type can name adapters."""
    value = type_.value_type if pa.types.is_dictionary(type_) else type_
    return _holds(type_, "text") or pa.types.is_integer(value) or pa.types.is_boolean(value)


def _columns(fields: Iterable[pa.Field], above: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Every column, and the fields of structs as `column.field`, with their types."""
    for field in fields:
        if not above or "." not in field.name:
            yield above + field.name, field.type
            if pa.types.is_struct(field.type):
                yield from _columns(field.type, f"{above}{field.name}.")


def _holds(type_: pa.DataType, kind: ColumnKind) -> bool:
    """Whether a column of that Arrow type is what a task reads."""
    if kind == "list<string>":
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(is_list(type_) for is_list in lists) and _holds(type_.value_type, "text")
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
