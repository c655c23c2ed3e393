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
        spent: hash of the holdout that was spent as evidence, and for which challenger; None if none was.
    """

    challenger: str | None = None
    champion: str | None = None
    number: int = 0
    promotions: int = 0
    entered: str | None = None
    draws: tuple[Draw, ...] = ()
    seen: frozenset[str] = field(default_factory=frozenset)
    spent: tuple[str, str] | None = None

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

    def spend(self, holdout: str, draw: Draw) -> Ring:
        """Use the holdout as evidence for the challenger in the ring, which is possible once.

        Raises:
            RunError: the ring is empty, or this holdout was spent before.
        """
        if self.challenger is None:
            raise RunError("no challenger is in the ring")
        if self.spent is not None and self.spent[0] == holdout:
            raise RunError(f"this holdout was spent as evidence for {self.spent[1]}; draw and label new rows")
        return replace(self, draws=(*self.draws, draw), spent=(holdout, self.challenger))

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
            "spent": None if self.spent is None else list(self.spent),
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
                    "spent": None if data["spent"] is None else tuple(data["spent"]),
                }
            )
        )
