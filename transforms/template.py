"""A prompt template: a text in which {column} is replaced by the text of that column."""

from __future__ import annotations

import string
from typing import Literal

# Use of a tokenizer's chat template: auto uses it if there is one, always requires one, never ignores it.
Chat = Literal["auto", "always", "never"]


def parse(template: str) -> list[str]:
    """Split a template into its own texts (even indices) and column names (odd indices); `{{` and `}}` are braces.

    Raises:
        ValueError: a brace that is not closed, or braces without a column name.
    """
    parts = [""]
    try:
        for text, name, form, conversion in string.Formatter().parse(template):
            parts[-1] += text
            if name is None:
                continue
            if not name or form or conversion:
                raise ValueError("braces without a plain column name")
            parts += [name, ""]
    except ValueError as error:
        raise ValueError(f"{template!r}: {error}; write {{column}}, and a brace itself twice") from error
    return parts


def columns(template: str) -> list[str]:
    """The columns that a template names, without duplicates; raises the same errors as `parse`."""
    return list(dict.fromkeys(parse(template)[1::2]))
