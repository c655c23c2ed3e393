"""A line that is not JSON: what can be read of it, and where its error is."""

from __future__ import annotations

from typing import Any

from jobs.source.formats.json_values import DECODER


def members(line: str) -> tuple[dict[str, Any], str | None]:
    """The members of a line that is not JSON: those before its error, and the key at which the error is, if at any."""
    found: dict[str, Any] = {}
    at = _end_of_space(line, 0)
    key: str | None = None
    try:
        while line[at : at + 1] in ("{", ","):
            key = None
            name, at = DECODER.raw_decode(line, _end_of_space(line, at + 1))
            if type(name) is not str:
                break
            key = name
            at = _end_of_space(line, at)
            if line[at : at + 1] != ":":
                break
            value, at = DECODER.raw_decode(line, _end_of_space(line, at + 1))
            at = _end_of_space(line, at)
            if line[at : at + 1] not in (",", "}"):
                break
            found[key] = value
    except (ValueError, RecursionError):
        return found, key
    return found, key if line[at : at + 1] != "}" else None


def _end_of_space(line: str, at: int) -> int:
    """Where the white space that begins at a position ends."""
    while line[at : at + 1] in (" ", "\t", "\r", "\n"):
        at += 1
    return at
