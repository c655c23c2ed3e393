"""Whether a challenger harms a slice of the holdout: harm is shown, or its absence is, or neither.

The loss on a slice has the confidence sequence of `eprocess.interval`, at an error of (1 - confidence) / S for each of
S slices, so that all of them hold together (Bonferroni). A slice with few rows is undecided: label more of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from jobs.gate import eprocess
from jobs.gate.eprocess import Draw
from jobs.gate.spec import GateSpec

# The slice of all rows. On it any certain loss is a reason to refuse, since a refusal needs no unspent evidence.
ALL = "all rows"

Harm = Literal["harm shown", "no harm shown", "cannot tell yet"]


@dataclass(frozen=True)
class Slice:
    """The challenger against the champion on a slice.

    Attributes:
        rows: number of rows.
        gain: mean difference; None without rows.
        gain_low: lower end of its confidence sequence.
        gain_high: upper end.
        harm: harm shown if the loss is certainly more than `max_slice_drop`, no harm shown if it is certainly at most
            that, cannot tell yet otherwise.
    """

    rows: int
    gain: float | None
    gain_low: float
    gain_high: float
    harm: Harm


def compare(slices: Mapping[str, Sequence[float]], gate: GateSpec) -> dict[str, Slice]:
    """Compare the two versions on each slice.

    Args:
        slices: name -> difference of each row, in [-1, 1].
        gate: with `confidence` and `max_slice_drop`.
    """
    confidence = 1.0 - (1.0 - gate.confidence) / max(1, len(slices))
    return {name: _slice(differences, confidence, gate.max_slice_drop) for name, differences in slices.items()}


def _slice(differences: Sequence[float], confidence: float, drop: float) -> Slice:
    draws = [Draw.whole(differences)]
    low, high = eprocess.interval(draws, confidence)
    harm: Harm = "harm shown" if high < -drop else "no harm shown" if low >= -drop else "cannot tell yet"
    return Slice(len(differences), eprocess.gain(draws), low, high, harm)
