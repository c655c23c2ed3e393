"""What one round of the training loop came to."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Outcome:
    """The outcome of a round.

    Attributes:
        version: the challenger.
        champion_before: the champion when the round began; None for none.
        metric: name of the metric of the gate.
        value: the challenger's on the holdout.
        champion_value: the champion's on the same rows.
        gain: estimated gain of the evidence, in the unit of the differences; None without evidence.
        gain_low: lower end of its confidence sequence.
        gain_high: upper end.
        slices: slice -> the metric of both, and whether harm is shown.
        decision: promoted, refused, waiting, or nothing new.
        reason: in one sentence.
        rows_train: training rows.
        rows_holdout: holdout rows.
        seconds: of the round.
        labels_needed: further labels that would probably settle a decision that waits.
        evidence: what the evidence is: the holdout, labels drawn later, or none.
        changes: what the two versions answer differently, as `Diff.to_json`; empty without a champion.
        curves: losses by step.
        leaked: training rows that were taken out because they are in the holdout.
        approved: whether the champion was moved.
        mislabelled: training rows that are probably mislabelled, of those whose labels were not learnt; None if nothing
            was trained in this round, or for tasks other than classify.
        notes: sentences about the measurement, such as a label without rows in the holdout.
    """

    version: str | None
    champion_before: str | None
    metric: str
    value: float | None
    champion_value: float | None
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    slices: Mapping[str, Mapping[str, Any]]
    decision: Literal["promoted", "refused", "waiting", "nothing new"]
    reason: str
    rows_train: int
    rows_holdout: int
    seconds: float
    labels_needed: int | None = None
    evidence: str = "none"
    changes: Mapping[str, Any] = field(default_factory=dict)
    curves: Sequence[Mapping[str, Any]] = field(default_factory=list)
    leaked: int = 0
    approved: bool = False
    mislabelled: int | None = None
    notes: Sequence[str] = field(default_factory=list)

    def to_json(self) -> str:
        """One line of JSON for stdout: everything except the examples and the curves."""
        left_out = ("changes", "curves")
        return json.dumps({key: value for key, value in asdict(self).items() if key not in left_out})

    def as_dict(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        return asdict(self)
