"""Column types of a source: one schema for all of its files."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import pyarrow as pa

from jobs.source.files import File
from jobs.source.shard import Layout
from transforms.errors import SourceError

# Types that a format's reader only guesses: all those of a CSV; what a JSON string looks like, and what is always null.
GUESSES: dict[str, Callable[[pa.DataType], bool]] = {
    "csv": lambda type_: True,
    "jsonl": lambda type_: pa.types.is_timestamp(type_) or pa.types.is_null(type_),
}


def with_texts(layout: Layout, format_: str, texts: Collection[str]) -> Layout:
    """The layout with strings where a task reads text and the file's format only guessed the type.

    Args:
        layout: of one file.
        format_: its format.
        texts: columns, or `struct.field`s, that tasks read as text.
    """
    if (is_guess := GUESSES.get(format_)) is None:
        return layout
    return replace(layout, schema=pa.schema([_as_text(field, field.name, texts, is_guess) for field in layout.schema]))


def unify(files: Sequence[File], layouts: Sequence[Layout]) -> pa.Schema:
    """One schema for all files: columns in the order first seen, types widened where that loses nothing.

    Raises:
        SourceError: a column has types that have nothing in common.
    """
    whole = layouts[0].schema
    # Types of a CSV are guesses: where two files guess apart, the column is text.
    guessed = all(file.format == "csv" for file in files)
    for file, layout in zip(files, layouts, strict=True):
        found = layout.schema
        for field in found if guessed else ():
            i = whole.get_field_index(field.name)
            if i >= 0 and not _unifies(whole.field(i), field):
                whole = whole.set(i, pa.field(field.name, pa.string()))
                found = found.set(found.get_field_index(field.name), whole.field(i))
        try:
            whole = pa.unify_schemas([whole, found], promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise SourceError(f"{file.url} does not fit the files before it: {error}") from error
    return pa.schema([field.with_nullable(True) for field in whole])


def _as_text(field: pa.Field, path: str, texts: Collection[str], is_guess: Callable[[pa.DataType], bool]) -> pa.Field:
    """The field as a string where it is read as text and its type was a guess; fields of structs likewise."""
    if path in texts and is_guess(field.type):
        return field.with_type(pa.string())
    if pa.types.is_struct(field.type):
        return field.with_type(pa.struct([_as_text(f, f"{path}.{f.name}", texts, is_guess) for f in field.type]))
    return field


def _unifies(one: pa.Field, other: pa.Field) -> bool:
    try:
        pa.unify_schemas([pa.schema([one]), pa.schema([other])], promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return False
    return True
