"""Offsets in a text by two counts: code points, as Python and Arrow have them, and UTF-16 code units, as browsers do.

A character outside the basic plane, such as most emojis, is one code point and two code units.
"""

from __future__ import annotations


def to_units(text: str, offset: int) -> int:
    """Code units before the code point with this index."""
    return offset + sum(character > "\uffff" for character in text[:offset])


def to_points(text: str, offset: int) -> int | None:
    """Code points before a code unit; None if it is inside a character or beyond the end of the text."""
    units = 0
    for points, character in enumerate(text):
        if units >= offset:
            return points if units == offset else None
        units += 1 + (character > "\uffff")
    return len(text) if units == offset else None
