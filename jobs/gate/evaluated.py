"""What was measured on the holdout, as the gate reads it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Evaluated:
    """What was measured on the holdout.

    Attributes:
        version: the challenger.
        metric: name of the metric of the floor.
        value: the challenger's.
        champion_value: the champion's; None without a champion.
        champion: version of the champion; None if there is none.
        changed: rows for which the two answer differently, of all rows that were compared; None without a champion.
        slices: name of a slice -> challenger minus champion of each of its rows, in [-1, 1], in any order.
        latency: computing time of the challenger divided by that of the champion, the median of passes in turn; None
            if the gate has no limit, or the holdout too few rows to measure it.
        agreement: lower end of the confidence interval of a student's agreement with its teacher; None without a
            teacher.
        lower_is_better: the metric is perplexity; the floor is then compared with 1 / value, a mean probability.
    """

    version: str
    metric: str
    value: float
    champion_value: float | None = None
    champion: str | None = None
    changed: int | None = None
    slices: Mapping[str, Sequence[float]] = field(default_factory=dict)
    latency: float | None = None
    agreement: float | None = None
    lower_is_better: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON; a slice is written as pairs of a difference and the number of rows that have it."""
        plain = {
            "value": float(self.value),
            "champion_value": None if self.champion_value is None else float(self.champion_value),
            "changed": None if self.changed is None else int(self.changed),
            "latency": None if self.latency is None else float(self.latency),
            "slices": {name: _tally(rows) for name, rows in self.slices.items()},
        }
        return asdict(self) | plain

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Evaluated:
        """The inverse of `to_json`, except for the order of a slice's rows."""
        slices = {
            name: tuple(float(d) for d, rows in pairs for _ in range(rows)) for name, pairs in data["slices"].items()
        }
        return cls(**(dict(data) | {"slices": slices}))


def _tally(differences: Sequence[float]) -> list[list[float | int]]:
    values, counts = np.unique(np.asarray(differences, float), return_counts=True)
    return [[float(value), int(count)] for value, count in zip(values, counts, strict=True)]
