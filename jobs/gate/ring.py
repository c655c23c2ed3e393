"""The ring: the one challenger for which evidence is collected, and the numbers that thresholds depend on.

A challenger enters with frozen weights. Only labels of rows that are drawn after that count as evidence, each row once.
The number of challengers never starts again, also if one is withdrawn for the next.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from jobs.gate.eprocess import Draw
from transforms.errors import RunError


@dataclass(frozen=True)
class Night:
    """Evidence that came in together.

    Attributes:
        draw: the rows.
        keys: identity of each labelled row of the draw, in the same order.
        drawn_at: when they were drawn, in UTC (ISO 8601); None for rows of the holdout.
    """

    draw: Draw
    keys: tuple[str, ...]
    drawn_at: str | None = None

    def __post_init__(self) -> None:
        if len(self.keys) != len(self.draw.differences):
            raise RunError(f"{len(self.draw.differences)} labelled rows have {len(self.keys)} keys")

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Night:
        """The inverse of what `Ring.to_json` writes."""
        return cls(**(data | {"draw": Draw.from_json(data["draw"]), "keys": tuple(data["keys"])}))


@dataclass(frozen=True)
class Ring:
    """The state of the gate of one registry.

    Attributes:
        challenger: version in the ring; None if it is empty.
        champion: version that it is compared with.
        number: the number of challengers so far, this one included.
        promotions: promotions by evidence so far.
        entered: when the challenger's weights were frozen, in UTC (ISO 8601).
        weights: how much each class counts in the differences, fixed when the challenger entered, as the JSON of
            `jobs.evaluation.labels.ClassWeights`; empty if every row counts alike.
        scale: what a gain in the unit of the differences is multiplied with to be a gain in the unit of the metric, at
            least 1; with weights of at most 1: 1 / (their mean over the rows of the holdout).
        nights: the evidence.
        spent: keys of the holdout rows that were evidence for some challenger; no other one may use them.
    """

    challenger: str | None = None
    champion: str | None = None
    number: int = 0
    promotions: int = 0
    entered: str | None = None
    weights: Mapping[str, Any] = field(default_factory=dict)
    scale: float = 1.0
    nights: tuple[Night, ...] = ()
    spent: frozenset[str] = field(default_factory=frozenset)

    def __post_init__(self) -> None:
        if not self.scale >= 1:
            raise RunError(f"the scale of the weights is {self.scale}; it is at least 1")

    @property
    def draws(self) -> tuple[Draw, ...]:
        """The evidence without the identity of its rows."""
        return tuple(night.draw for night in self.nights)

    @property
    def seen(self) -> frozenset[str]:
        """Keys of the rows that are in the evidence."""
        return frozenset(key for night in self.nights for key in night.keys)

    @property
    def holdout_spent(self) -> bool:
        """Whether the evidence for the challenger in the ring holds rows of the holdout."""
        return any(night.drawn_at is None for night in self.nights)

    def enter(
        self,
        challenger: str,
        champion: str,
        now: str,
        weights: Mapping[str, Any] | None = None,
        scale: float = 1.0,
    ) -> Ring:
        """Let a challenger in; one that was there is withdrawn, and its evidence is dropped.

        Args:
            challenger: its version.
            champion: the version that it is compared with.
            now: when its weights were frozen, in UTC (ISO 8601).
            weights: of the classes; all of its evidence has to be weighted with them.
            scale: of the weights.

        Raises:
            RunError: it is the champion itself, `now` is no time, or the scale is below 1.
        """
        if challenger == champion:
            raise RunError(f"{challenger} is the champion, so it cannot be the challenger")
        _time(now)
        return replace(
            self._empty(),
            challenger=challenger,
            champion=champion,
            number=self.number + 1,
            entered=now,
            weights=dict(weights or {}),
            scale=scale,
        )

    def add(
        self, challenger: str, draw: Draw, keys: Sequence[str], drawn_at: str, trained: Collection[str] = ()
    ) -> Ring:
        """Add the evidence of one night.

        Args:
            challenger: the version that the rows were drawn and scored for.
            draw: the rows.
            keys: identity of each labelled row.
            drawn_at: when they were drawn, in UTC (ISO 8601).
            trained: keys of the rows that the challenger was trained on; they should not have been drawn.

        Raises:
            RunError: the rows are not evidence for the challenger in the ring.
        """
        if challenger != self.challenger or self.entered is None:
            raise RunError(
                f"these labels compare {challenger}, and {self.challenger or 'no challenger'} is in the ring"
            )
        if _time(drawn_at) <= _time(self.entered):
            raise RunError(
                f"these rows were drawn at {drawn_at}, and the weights of {challenger} were frozen at {self.entered}; "
                "only rows that are drawn later are evidence"
            )
        if learned := set(keys).intersection(trained):
            raise RunError(f"{challenger} was trained on row {min(learned)}, so the row is no evidence; draw others")
        return self._with(Night(draw, tuple(keys), drawn_at))

    def unspent(self, keys: Sequence[str]) -> list[bool]:
        """Which rows of a holdout can still be spent as evidence: those that never were, for no challenger."""
        used = self.spent | self.seen
        return [key not in used for key in keys]

    def spend(self, draw: Draw, keys: Sequence[str]) -> Ring:
        """Use holdout rows as evidence for the challenger in the ring; each row is evidence once, for one challenger.

        This is sound if the challenger entered the ring before it was measured on these rows, and if nobody chose how
        it is trained by looking at earlier results on them.

        Args:
            draw: the rows; those that both versions answer alike may be counted in `others`, and stay unspent.
            keys: identity of each labelled row of the draw.

        Raises:
            RunError: the ring is empty, or a row was evidence before.
        """
        if self.challenger is None:
            raise RunError("no challenger is in the ring")
        if again := self.spent.intersection(keys):
            raise RunError(f"row {min(again)} of the holdout was evidence before; each row counts once")
        return replace(self._with(Night(draw, tuple(keys))), spent=self.spent.union(keys))

    def settle(self, promoted: bool) -> Ring:
        """Empty the ring after a promotion or a refusal.

        Raises:
            RunError: the ring is empty, so there is nothing to promote.
        """
        if self.challenger is None:
            raise RunError("no challenger is in the ring")
        return replace(self._empty(), promotions=self.promotions + promoted)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        nights = [asdict(night) | {"draw": night.draw.to_json(), "keys": list(night.keys)} for night in self.nights]
        return asdict(self) | {"nights": nights, "weights": dict(self.weights), "spent": sorted(self.spent)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Ring:
        """The inverse of `to_json`."""
        nights = tuple(map(Night.from_json, data["nights"]))
        return cls(**(data | {"nights": nights, "spent": frozenset(data["spent"])}))

    def _with(self, night: Night) -> Ring:
        if again := self.seen.intersection(night.keys):
            raise RunError(f"row {min(again)} is evidence already; each row counts once")
        if len(set(night.keys)) < len(night.keys):
            raise RunError("a row is in this draw twice; each row counts once")
        return replace(self, nights=(*self.nights, night))

    def _empty(self) -> Ring:
        return Ring(number=self.number, promotions=self.promotions, spent=self.spent)


def _time(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise RunError(f"{text!r} is no time; give ISO 8601, such as 2026-01-31T04:00:00+00:00") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
