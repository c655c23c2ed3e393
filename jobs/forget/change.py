"""One change that erases something, prepared and not made yet; and what such changes do to JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any

from jobs.store import Store


@dataclass(frozen=True)
class Change:
    """A prepared change.

    Attributes:
        place: where it erases, for the output, such as `lake/review: drawn rows`.
        rows: rows, or entries, that it erases.
        make: makes it.
    """

    place: str
    rows: int
    make: Callable[[], None]


def written(store: Store, name: str, content: bytes, place: str, rows: int) -> Change:
    """A change that replaces a small file."""
    return Change(place, rows, lambda: store.put(name, content))


def without_keys(content: Any, keys: Collection[str]) -> tuple[Any, int]:
    """JSON without what is about some rows: elements of lists that hold a key, and entries of objects named by one.

    Args:
        content: what was read from JSON.
        keys: the keys of the rows.

    Returns:
        The content, and the number of elements and entries that were left out.
    """
    if isinstance(content, list):
        left = [each for each in content if not _holds(each, keys)]
        return left, len(content) - len(left)
    if not isinstance(content, dict):
        return content, 0
    found, count = {}, sum(name in keys for name in content)
    for name, value in content.items():
        if name not in keys:
            found[name], more = without_keys(value, keys)
            count += more
    return found, count


def lines_without(content: bytes, keys: Collection[str]) -> tuple[bytes, int]:
    """The same for JSON lines; a line that holds a key is left out."""
    lines = content.splitlines(keepends=True)
    left = [line for line in lines if not line.strip() or not _holds(json.loads(line), keys)]
    return b"".join(left), len(lines) - len(left)


def _holds(content: Any, keys: Collection[str]) -> bool:
    """Whether some text anywhere in JSON is a key."""
    if isinstance(content, str):
        return content in keys
    inner: Iterable[Any] = [*content, *content.values()] if isinstance(content, dict) else ()
    return any(_holds(each, keys) for each in (content if isinstance(content, list) else inner))
