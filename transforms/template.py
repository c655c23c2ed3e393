"""A prompt template: text with {column} where a column's text goes."""

from __future__ import annotations

import string
from typing import Literal

# Whether a tokenizer's chat template goes around a prompt: where there is one, always, never.
Chat = Literal["auto", "always", "never"]


def parse(template: str) -> list[str]:
    """A template's own texts (even places) and the columns it names in braces (odd ones); `{{` and `}}` are braces.

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
    """The columns that a template names, each once; raises as `parse` does."""
    return list(dict.fromkeys(parse(template)[1::2]))
