"""The layers of a base that adapters change by default, where PEFT's own tables do not have its architecture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def names(network: Any) -> set[str]:
    """The last part of the name of each module of a network, and the last two parts."""
    found = set()
    for name, _ in network.named_modules():
        parts = name.split(".")
        found |= {parts[-1], ".".join(parts[-2:])}
    return found


def first(network: Any, choices: Iterable[Sequence[str]]) -> list[str] | None:
    """The first group of names that a network has all of."""
    known = names(network)
    return next((list(group) for group in choices if known.issuperset(group)), None)
