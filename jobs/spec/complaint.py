"""What is wrong with a job file, as one sentence with the key, the value and the valid ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from types import NoneType
from typing import Any, get_args

import pydantic

# How similar a mistyped key must be to a key of another section, or to one of its own if another section has the very
# key; 0.6, which difflib takes by default, also pairs `workers` and `errors`.
ALIKE = 0.85

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
COMMIT = "^[0-9a-f]{40}$"
DEVICE = r"^(auto|cpu|mps|cuda(:\d+)?)$"

# What a text must match -> the same in words.
PATTERNS = {
    NAME: "letters, digits and . _ - of which the first is a letter or a digit",
    COMMIT: "a commit, 40 digits and letters from a to f",
    DEVICE: "auto, cpu, mps, cuda, or cuda:1 for a second GPU",
}


def sentence(error: pydantic.ValidationError, valid: Sequence[str], prefix: str = "") -> str:
    """The first complaint of pydantic as one sentence with key, value, valid values.

    Args:
        error: what pydantic found.
        valid: every dotted key that the job file may have.
        prefix: of the keys in `error`, such as `tasks.0.`.
    """
    first, *more = error.errors()
    place = [str(part) for part in first["loc"] if not _is_branch(part)]
    where = (prefix + ".".join(place)).rstrip(".")
    value = first.get("input")
    match first["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            text = f"{where} is not a key{_other_key(where, valid)}"
        case "missing" | "missing_argument":
            text = f"{where} is missing"
        case "literal_error":
            text = f"{where} is {value!r}; choices: {first['ctx']['expected']}"
        case "string_pattern_mismatch":
            pattern = first["ctx"]["pattern"]
            text = f"{where} is {_short(value)}; give {PATTERNS.get(pattern, f'a text that matches {pattern}')}"
        case "string_type":
            text = f"{where} is {_short(value)}; a text is needed, in quotes if YAML takes it for something else"
        case "list_type":
            text = f"{where} is {_short(value)}; a list is needed: [a, b], or an entry a line after '- '"
        case "model_type" | "dict_type" | "mapping_type":
            text = f"{where} is {_short(value)}; keys with values are needed below it"
        case "value_error":
            text = f"{where}{': ' if where else ''}{first['ctx']['error']}"
        case _:
            # What Python could not do with a text says nothing more than what the value should be.
            expected = first["msg"].split(", unable to ")[0]
            text = f"{where} is {_short(value)}; {expected[0].lower()}{expected[1:]}"
    others = len({tuple(e["loc"]) for e in more} - {first["loc"]})
    return text + (f" (and {others} more)" if others else "")


def suggest(word: str, choices: Sequence[str], noun: str) -> str:
    """The choice that is most like a word, and all choices."""
    return _told(difflib.get_close_matches(word, choices, 1), choices, noun)


def keys_of(section: type[pydantic.BaseModel], prefix: str = "") -> Iterator[str]:
    """Every dotted key of a section and of the sections in it, depth first."""
    for name, field in section.model_fields.items():
        yield prefix + name
        # A section may be optional; a list of sections has numbers in its keys.
        inner = field.annotation
        if get_args(inner)[1:] == (NoneType,):
            inner = get_args(inner)[0]
        if isinstance(inner, type) and issubclass(inner, pydantic.BaseModel):
            yield from keys_of(inner, f"{prefix}{name}.")


def _other_key(where: str, valid: Sequence[str]) -> str:
    """The key that was meant: one of the same section, or one of that name in another section."""
    section, _, key = where.rpartition(".")
    own = [name for above, _, name in map(_split, valid) if above == section]
    same = [each for each in valid if _split(each)[2] == key]
    close = difflib.get_close_matches(key, own, 1, ALIKE if same else 0.6)
    if not close and not same:
        alike = difflib.get_close_matches(key, [_split(each)[2] for each in valid], 1, ALIKE)
        same = [each for each in valid if _split(each)[2] in alike]
    return _told([*close, *same][:3], own, "keys")


def _split(key: str) -> tuple[str, str, str]:
    return key.rpartition(".")


def _told(close: Sequence[str], choices: Sequence[str], noun: str) -> str:
    return (f"; did you mean {' or '.join(close)}?" if close else "") + f"; {noun}: {', '.join(choices)}"


def _is_branch(part: Any) -> bool:
    """The keys of an error's location, without the names of union members that pydantic adds."""
    return isinstance(part, str) and (part in ("str", "int") or part.startswith(("list[", "literal[")))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
