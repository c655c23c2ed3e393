"""The options of a task: which of them name columns, and how `nightscribe tasks` describes them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from transforms import template

ColumnKind = Literal["text", "list<string>"]


def columns_read(options: Any) -> list[str]:
    """The columns that a task reads."""
    return [column for column, _ in column_kinds(options)]


def column_kinds(options: Any) -> list[tuple[str, ColumnKind]]:
    """The columns that a task reads, each with what it must hold.

    They are what its `column_field`s hold, and what its `template_field`s name in braces.
    """
    fields = ((f.metadata, getattr(options, f.name)) for f in dataclasses.fields(options))
    values = [(metadata, value) for metadata, value in fields if value is not None]
    columns = [(value, metadata["column"]) for metadata, value in values if metadata.get("column")]
    templates = [value for metadata, value in values if metadata.get("template")]
    text: ColumnKind = "text"
    return [*columns, *((name, text) for value in templates for name in template.columns(value))]


def column_field(doc: str, kind: ColumnKind = "text", **default: Any) -> Any:
    """An option that names a column which the task reads; required unless `default=None`."""
    return field(metadata={"column": kind, "doc": doc}, **default)


def template_field(doc: str) -> Any:
    """An option that is a text with {column} where a text column goes; not required."""
    return field(default=None, metadata={"template": True, "doc": doc})


def with_fields(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """The batch with a column for each `struct.field` among the columns that a task reads; null where any part is."""
    for column in columns:
        if column not in batch.schema.names:
            name, *path = column.split(".")
            batch = batch.append_column(column, pc.struct_field(batch.column(name), path))
    return batch


def describe(options: type) -> Iterator[str]:
    """Every option as a job file would have it: name, choices, default."""
    types = get_type_hints(options)
    for f in dataclasses.fields(options):
        default = (
            "required" if f.default is dataclasses.MISSING else f"default {'none' if f.default is None else f.default}"
        )
        yield f"{f.name}: {_choices(types[f.name])} ({default})"


def _choices(type_: Any) -> str:
    if get_origin(type_) is Literal:
        return " | ".join(map(str, get_args(type_)))
    if get_origin(type_) is dict:
        return "mapping"
    if get_origin(type_) in (list, tuple):
        return f"list of {_choices(get_args(type_)[0])}"
    if arguments := [argument for argument in get_args(type_) if argument is not type(None)]:
        return " | ".join(_choices(argument) for argument in arguments)
    return str(getattr(type_, "__name__", type_))
