"""Find equal items, so that each is computed once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)


def places(items: Iterable[K]) -> dict[K, list[int]]:
    """Each distinct item -> its indices, ordered by first index."""
    found: dict[K, list[int]] = {}
    for place, item in enumerate(items):
        found.setdefault(item, []).append(place)
    return found
