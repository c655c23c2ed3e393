"""Values of new columns as short text for a person: `positive (0.93)`, `Cairo (LOC), John Smith (PER)`."""

from __future__ import annotations

import json
from typing import Any

# Characters of a text or a value that a report shows.
CHARACTERS = 240
ITEMS = 8


def shown(value: Any, characters: int = CHARACTERS) -> str | None:
    """A value of a new column as text; None for null."""
    return None if value is None else cut(_text(value), characters)


def cut(text: str, characters: int) -> str:
    """The text on one line, its end left out where it is long."""
    text = " ".join(text[: 4 * characters].split())
    return text if len(text) <= characters else text[: characters - 1] + "…"


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case float():
            return f"{value:.3g}"
        case {"label": label, "text": str(text)}:
            return f"{text} ({label})"
        case {"token": token, "score": float(score)}:
            return f"{token} ({score:.2f})"
        case {"text": str(text), "score": float(score)}:
            return f"{text} ({score:.2f})"
        case {"label": label, "score": float(score)}:
            return f"{label} ({score:.2f})"
        case [float(), *_]:
            return f"{len(value):,} numbers"
        case list():
            more = f", and {len(value) - ITEMS:,} more" if len(value) > ITEMS else ""
            return ", ".join(_text(item) for item in value[:ITEMS] if item is not None) + more
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)
