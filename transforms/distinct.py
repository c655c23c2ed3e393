"""Equal items, found so that each is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def places(items: Iterable[K]) -> dict[K, list[int]]:
    """Where each distinct item is, in the order of their first places."""
    found: dict[K, list[int]] = {}
    for place, item in enumerate(items):
        found.setdefault(item, []).append(place)
    return found
