"""Evidence for a gain that may be looked at any number of times: an e-process that bets on paired differences.

A difference d in [-1, 1] is the score of the challenger for a row minus that of the champion, such as 1 if only the
challenger is right. Under the hypothesis that the mean of d is at most m,

    E_n = mean over lambda of prod_i (1 + lambda (d_i - m)),    0 < lambda < 1 / (1 + m)

is a nonnegative supermartingale that starts at 1, so by Ville's inequality it ever reaches 1/alpha with probability at
most alpha (Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by betting, arXiv:2010.09686).

Rows that were not drawn for labelling count as well. If row i is drawn with probability pi_i, known before it is drawn,
z_i = d_i / pi_i for a drawn row and 0 for any other has the mean of d, and is at most 1/p for the smallest probability
p of that night. So x_i = p z_i is in [-1, 1], and the bets are on x_i against p m. A row for which champion and
challenger answer the same has d = 0 without a label, so only rows that they answer differently need to be drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Sizes of a bet as fractions of the largest one: small ones find small gains, large ones find large gains fast.
FRACTIONS = np.array([0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8, 0.95])
# Distance of neighbouring candidate gains of a confidence sequence.
STEP = 0.0025

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The rows of one night that count as evidence.

    Attributes:
        differences: score of the challenger minus score of the champion of each labelled row, in [-1, 1].
        probabilities: the probability with which each of them had been drawn, in (0, 1].
        others: rows without a label that count as 0: answered the same by both, or not drawn.
        smallest: the smallest probability with which any row could have been drawn; fixed before the draw.
    """

    differences: tuple[float, ...]
    probabilities: tuple[float, ...]
    others: int = 0
    smallest: float = 1.0

    def __post_init__(self) -> None:
        if len(self.differences) != len(self.probabilities):
            raise ValueError(f"{len(self.differences)} differences have {len(self.probabilities)} probabilities")
        if any(not -1 <= d <= 1 for d in self.differences):
            raise ValueError("a difference is outside of -1 to 1")
        if not 0 < self.smallest <= 1 or any(not self.smallest <= p <= 1 for p in self.probabilities):
            raise ValueError(f"a drawing probability is not from {self.smallest}, the smallest of the draw, to 1")

    @property
    def rows(self) -> int:
        """Labelled and other rows."""
        return len(self.differences) + self.others

    def scaled(self) -> Floats:
        """The value p d_i / pi_i of each labelled row, in [-1, 1]."""
        return self.smallest * np.asarray(self.differences, float) / np.asarray(self.probabilities, float)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "differences": list(self.differences),
            "probabilities": list(self.probabilities),
            "others": self.others,
            "smallest": self.smallest,
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Draw:
        """The inverse of `to_json`."""
        return cls(tuple(data["differences"]), tuple(data["probabilities"]), data["others"], data["smallest"])

    @classmethod
    def whole(cls, differences: Sequence[float]) -> Draw:
        """Rows that were all labelled, such as a holdout."""
        return cls(tuple(map(float, differences)), (1.0,) * len(differences))


def log_wealth(draws: Sequence[Draw], mean: float, sign: int = 1) -> Floats:
    """The logarithm of what each size of bet has won.

    Args:
        draws: the evidence, by night.
        mean: the gain of the hypothesis.
        sign: 1 bets that the gain is larger, -1 that it is smaller.

    Returns:
        One number for each of FRACTIONS.
    """
    won = np.zeros(len(FRACTIONS))
    for draw in draws:
        m = draw.smallest * mean
        sizes = FRACTIONS / (1.0 + sign * m)
        won += np.log1p(np.outer(sizes, sign * (draw.scaled() - m))).sum(axis=1)
        won += draw.others * np.log1p(-sizes * sign * m)
    return won


def log_e_value(draws: Sequence[Draw], mean: float, sign: int = 1) -> float:
    """The logarithm of the e-value against the hypothesis that the gain is at most `mean` (with sign -1: at least)."""
    return float(_log_mean(log_wealth(draws, mean, sign)))


def gain(draws: Sequence[Draw]) -> float | None:
    """The estimated mean of the differences over all rows; None without rows."""
    rows = sum(draw.rows for draw in draws)
    total = sum(float((draw.scaled() / draw.smallest).sum()) for draw in draws)
    return total / rows if rows else None


def interval(draws: Sequence[Draw], confidence: float) -> tuple[float, float]:
    """A confidence sequence for the gain: all nights together, it contains the gain with that probability.

    Returns:
        Smallest and largest gain that neither of two bets, each at half of the error, refutes.
    """
    limit = np.log(2.0 / (1.0 - confidence))
    candidates = np.arange(-1.0 + STEP, 1.0, STEP)
    above = np.array([log_e_value(draws, m) < limit for m in candidates])
    below = np.array([log_e_value(draws, m, -1) < limit for m in candidates])
    low = candidates[above].min() - STEP if above.any() else 1.0
    high = candidates[below].max() + STEP if below.any() else -1.0
    return float(max(low, -1.0)), float(min(high, 1.0))


def labels_needed(draws: Sequence[Draw], mean: float, log_threshold: float) -> int | None:
    """How many more labels would reach the threshold if they are like those so far.

    Returns:
        A number of labels; None if the evidence so far does not grow.
    """
    labels = sum(len(draw.differences) for draw in draws)
    won = log_wealth(draws, mean)
    if not labels or won.max() <= 0:
        return None
    rate = float(won.max()) / labels
    return max(1, int(np.ceil((log_threshold - float(_log_mean(won))) / rate)))


def _log_mean(values: Floats) -> Floats:
    top = values.max(axis=-1)
    return np.asarray(top + np.log(np.mean(np.exp(values - np.expand_dims(top, -1)), axis=-1)))
