"""A move of the champion, and what a series of them comes to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from pydantic import TypeAdapter

from jobs.registry import record


@dataclass(frozen=True)
class Move:
    """One move of the champion.

    Attributes:
        number: counts the moves of a registry from 1.
        version: the new champion.
        before: the champion before; None for the first.
        fallback: the version that a rollback returns to; None if there is none.
        action: promote or rollback.
        by: who or what approved it.
        reason: why.
        at: UTC (ISO 8601).
        metrics: those of the new champion.
        receipt: what the decision was derived from; None if a person decided.
    """

    number: int
    version: str
    before: str | None
    fallback: str | None
    action: Literal["promote", "rollback"]
    by: str
    reason: str
    at: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None

    def to_json(self) -> bytes:
        """The content of champion.json, and of a file of the history."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes, place: str) -> Move:
        """The inverse of `to_json`.

        Raises:
            UnreadableRegistry: the file is damaged.
        """
        fix = "restore it; a champion.json has the content of the newest file in the folder history"
        return record.parse(_FORM, text, place, fix)


_FORM = TypeAdapter(Move)


def chain(moves: Sequence[Move]) -> list[str]:
    """The champions that rollbacks would go back through, the current one last.

    Args:
        moves: every move, oldest first.
    """
    versions: list[str] = []
    for move in moves:
        if move.action == "promote":
            versions.append(move.version)
        else:
            versions = versions[:-1]
    return versions
