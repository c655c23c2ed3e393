"""The ring: the one challenger for which evidence is collected, and the numbers that thresholds depend on.

A challenger enters with frozen weights. Only labels of rows that are drawn after that count as evidence, each row once.
The number of challengers never starts again, also if one is withdrawn for the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from jobs.gate.eprocess import Draw
from transforms.errors import RunError


@dataclass(frozen=True)
class Ring:
    """The state of the gate of one registry.

    Attributes:
        challenger: version in the ring; None if it is empty.
        champion: version that it is compared with.
        number: the number of challengers so far, this one included.
        promotions: promotions by evidence so far.
        entered: when its weights were frozen, in UTC (ISO 8601).
        draws: the evidence, by night.
        seen: keys of the rows that are in the evidence.
        spent: keys of the holdout rows that were evidence for some challenger; no other one may use them.
    """

    challenger: str | None = None
    champion: str | None = None
    number: int = 0
    promotions: int = 0
    entered: str | None = None
    draws: tuple[Draw, ...] = ()
    seen: frozenset[str] = field(default_factory=frozenset)
    spent: frozenset[str] = field(default_factory=frozenset)

    def enter(self, challenger: str, champion: str, now: str) -> Ring:
        """Let a challenger in; one that was there is withdrawn, and its evidence is dropped."""
        return replace(
            self,
            challenger=challenger,
            champion=champion,
            number=self.number + 1,
            entered=now,
            draws=(),
            seen=frozenset(),
        )

    def add(self, challenger: str, draw: Draw, keys: Sequence[str], drawn_at: str) -> Ring:
        """Add the evidence of one night.

        Args:
            challenger: the version that the rows were drawn and scored for.
            draw: the rows.
            keys: identity of each labelled row.
            drawn_at: when they were drawn, in UTC (ISO 8601).

        Raises:
            RunError: the rows are not evidence for the challenger in the ring.
        """
        if challenger != self.challenger or self.entered is None:
            raise RunError(
                f"these labels compare {challenger}, and {self.challenger or 'no challenger'} is in the ring"
            )
        if drawn_at <= self.entered:
            raise RunError(
                f"these rows were drawn at {drawn_at}, and the weights of {challenger} were frozen at {self.entered}; "
                "only rows that are drawn later are evidence"
            )
        if len(keys) != len(draw.differences):
            raise RunError(f"{len(draw.differences)} labelled rows have {len(keys)} keys")
        if again := self.seen.intersection(keys):
            raise RunError(f"row {min(again)} is evidence already; each row counts once")
        if len(set(keys)) < len(keys):
            raise RunError("a row is in this draw twice; each row counts once")
        return replace(self, draws=(*self.draws, draw), seen=self.seen.union(keys))

    def spend(self, draw: Draw, keys: Sequence[str]) -> Ring:
        """Use holdout rows as evidence for the challenger in the ring; each row is evidence once, for one challenger.

        Args:
            draw: the rows, all labelled; neither the training nor an earlier decision may have used them.
            keys: identity of each row.

        Raises:
            RunError: the ring is empty, or a row was evidence before.
        """
        if self.challenger is None:
            raise RunError("no challenger is in the ring")
        if len(keys) != len(draw.differences) or len(set(keys)) < len(keys):
            raise RunError(f"{len(draw.differences)} rows of the holdout have {len(set(keys))} keys")
        if again := (self.spent | self.seen).intersection(keys):
            raise RunError(f"row {min(again)} of the holdout was evidence before; each row counts once")
        seen = self.seen.union(keys)
        return replace(self, draws=(*self.draws, draw), seen=seen, spent=self.spent.union(keys))

    def settle(self, promoted: bool) -> Ring:
        """Empty the ring after a promotion or a refusal."""
        return replace(
            self,
            challenger=None,
            champion=None,
            promotions=self.promotions + promoted,
            entered=None,
            draws=(),
            seen=frozenset(),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {
            "draws": [draw.to_json() for draw in self.draws],
            "seen": sorted(self.seen),
            "spent": sorted(self.spent),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ring:
        """The inverse of `to_json`."""
        return cls(
            **(
                data
                | {
                    "draws": tuple(map(Draw.from_json, data["draws"])),
                    "seen": frozenset(data["seen"]),
                    "spent": frozenset(data["spent"]),
                }
            )
        )
