"""The options of a task: which of them name columns, and how `nightscribe tasks` describes them."""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pyarrow as pa
import pyarrow.compute as pc

from transforms import template

ColumnKind = Literal["text", "list<string>"]

# Descriptions of types, for someone who writes YAML.
WORDS = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    dict: "keys with values",
    Any: "anything",
}
COLUMN_WORDS = {"text": "a column of texts", "list<string>": "a column of lists of texts"}


def columns_read(options: Any) -> list[str]:
    """The columns that a task reads."""
    return [column for column, _ in column_kinds(options)]


def column_kinds(options: Any) -> list[tuple[str, ColumnKind]]:
    """The columns that a task reads, each with the kind of values it must hold.

    They are the values of its `column_field`s and the names in braces in its `template_field`s.
    """
    fields = ((f.metadata, getattr(options, f.name)) for f in dataclasses.fields(options))
    values = [(metadata, value) for metadata, value in fields if value is not None]
    columns = [(value, metadata["column"]) for metadata, value in values if metadata.get("column")]
    templates = [value for metadata, value in values if metadata.get("template")]
    text: ColumnKind = "text"
    return [*columns, *((name, text) for value in templates for name in template.columns(value))]


def column_field(doc: str, kind: ColumnKind = "text", **default: Any) -> Any:
    """An option with the name of a column that the task reads; required unless `default=None`."""
    return field(metadata={"column": kind, "doc": doc}, **default)


def template_field(doc: str) -> Any:
    """An option with a text in which {column} is replaced by the text of that column; not required."""
    return field(default=None, metadata={"template": True, "doc": doc, "example": '"... {column} ..."'})


def example_field(example: str) -> Any:
    """An option that may be left out only if another is given instead; the example is YAML for the task's page."""
    return field(default=None, metadata={"example": example})


def column_of(path: str, names: Container[str]) -> str:
    """The column that holds what a task reads as `path`: the column of that name, or the struct of which it is a field.

    Names of columns may have dots of their own: those of flattened JSON, such as `user.name`.

    Args:
        path: such as `text`, or `sentiment.label`.
        names: the columns that there are.

    Returns:
        One of the names, the longest that fits; the part before the first dot if none does.
    """
    parts = path.split(".")
    found = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in found if name in names), parts[0])


def with_fields(batch: pa.RecordBatch, columns: Sequence[str]) -> pa.RecordBatch:
    """Add a column for each `struct.field` that a task reads; null where the struct or the field is null."""
    for column in columns:
        if column not in batch.schema.names:
            name = column_of(column, batch.schema.names)
            fields = column.removeprefix(f"{name}.").split(".")
            batch = batch.append_column(column, pc.struct_field(batch.column(name), fields))
    return batch


@dataclass(frozen=True)
class Described:
    """The description of an option.

    Attributes:
        name: its key in a job file.
        values: the valid values, such as `a whole number`.
        default: the value if a job file does not set it; None if the explanation describes the default.
        required: whether a job file must set it.
        explanation: its effect, as a sentence.
        example: a value for an example of a job file; None for a key that an example can do without.
    """

    name: str
    values: str
    default: str | None
    required: bool
    explanation: str
    example: str | None = None


def describe(options: type) -> list[Described]:
    """Describe every option of a task; explanations are in the docstring's Attributes section or in the field."""
    types, explained = get_type_hints(options), _attributes(options)
    described = []
    for f in dataclasses.fields(options):
        default = f.default if f.default_factory is dataclasses.MISSING else f.default_factory()
        required = default is dataclasses.MISSING
        described.append(
            Described(
                f.name,
                COLUMN_WORDS[f.metadata["column"]] if "column" in f.metadata else in_words(types[f.name]),
                None if default is None or required else as_written(default),
                required,
                sentence(explained.get(f.name) or f.metadata.get("doc") or ""),
                f.metadata.get("example", "..." if required else None),
            )
        )
    return described


def in_words(type_: Any) -> str:
    """Describe a type for someone who writes YAML: `a whole number or all`, `truncate or window`."""
    if get_origin(type_) is Literal:
        return _either(list(map(str, get_args(type_))))
    if type_ in WORDS:
        return WORDS[type_]
    if get_origin(type_) is dict:
        return WORDS[dict]
    if get_origin(type_) in (list, tuple) and get_args(type_):
        return f"a list, as [first, second], each item {in_words(get_args(type_)[0])}"
    if arguments := [argument for argument in get_args(type_) if argument is not type(None)]:
        return _either(list(map(in_words, arguments)))
    return str(getattr(type_, "__name__", type_))


def as_written(value: Any) -> str:
    """A value as it is written in a job file."""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, bool | list | tuple | dict) else str(value)


def sentence(text: str) -> str:
    """A text with a capital at its start and a full stop at its end."""
    text = text.strip()
    return text and text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def _either(choices: list[str]) -> str:
    return choices[0] if len(choices) == 1 else f"{', '.join(choices[:-1])} or {choices[-1]}"


def _attributes(options: type) -> dict[str, str]:
    """The Attributes section of a Google-style docstring: name -> text."""
    lines = inspect.cleandoc(options.__doc__ or "").split("Attributes:\n")[-1].splitlines()
    found: dict[str, str] = {}
    name = ""
    for line in lines:
        if match := re.match(r"    (\w+): (.*)", line):
            name, found[match[1]] = match[1], match[2]
        elif name and line.startswith("     "):
            found[name] += " " + line.strip()
    return found
