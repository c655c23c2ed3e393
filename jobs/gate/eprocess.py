"""Evidence for a gain that may be looked at any number of times: an e-process that bets on paired differences.

A difference d in [-1, 1] is the score of the challenger for a row minus that of the champion, such as 1 if only the
challenger is right. Under the hypothesis that the mean of d is at most m,

    E_n = mean over lambda of prod_i (1 + lambda (d_i - m)),    0 < lambda < 1 / (1 + m)

is a nonnegative supermartingale that starts at 1, so by Ville's inequality it ever reaches 1/alpha with probability at
most alpha (Waudby-Smith and Ramdas 2024, Estimating means of bounded random variables by betting, arXiv:2010.09686).

Rows that were not drawn for labelling count as well. Row i is drawn with probability pi_i >= p, independently of the
others, and p and all pi_i are fixed before the draw. Let z_i = d_i / pi_i for a drawn row and 0 for any other. Then z_i
has the expectation d_i, and x_i = p z_i is in [-1, 1] because p / pi_i <= 1. The bets are on x_i against p m:

    1 + lambda (x_i - p m) >= 1 - lambda (1 + p m) > 0            for lambda < 1 / (1 + p m), so no bet loses all;
    E prod_i (1 + lambda (x_i - p m)) = prod_i (1 + lambda p (d_i - m)) <= (1 + lambda p (mean d - m))^N <= 1

if the mean of d over the N rows of the night is at most m; the first inequality is that of the geometric and the
arithmetic mean. So each night multiplies E by a factor with expectation at most 1, and E is an e-process; only the draw
has to be random, and the rows of a night need not resemble each other or those of other nights. The scale p has to be
the same for all rows of a night: with a scale by row, large differences could be paired with large scales. The argument
also holds if n of N rows are drawn uniformly without replacement, since such draws are negatively associated
(Joag-Dev and Proschan 1983, doi:10.1214/aos/1176346079) and the factors increase with x_i.

A row for which champion and challenger answer the same has d = 0 without a label, so only rows that they answer
differently need to be drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Sizes of a bet as fractions of the largest one: small ones find small gains, large ones find large gains fast. A size
# that is wrong by a factor of 1.4 still grows at 5/6 of the best rate, and each further size costs a little.
FRACTIONS = np.array([0.03, 0.06, 0.12, 0.24, 0.48, 0.95])
# The ends of an interval are exact to this gain.
EXACT = 1e-6
# More labels than this are not foreseeable: 400 nights of 50.
HORIZON = 20_000

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draw:
    """The rows of one night that count as evidence.

    Attributes:
        differences: score of the challenger minus score of the champion of each labelled row, in [-1, 1].
        probabilities: the probability with which each of them had been drawn, in (0, 1].
        others: rows without a label that count as 0: answered the same by both, or not drawn. A row that was drawn and
            whose label is missing is not one of them; it is left out if labels are missing for reasons that have
            nothing to do with who is right, and counts as a labelled row with difference -1 otherwise.
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
        if self.others < 0:
            raise ValueError(f"others is {self.others}; the number of rows without a label is 0 or more")

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
            "differences": [float(d) for d in self.differences],
            "probabilities": [float(p) for p in self.probabilities],
            "others": int(self.others),
            "smallest": float(self.smallest),
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
    """The logarithm of what each size of bet has won; that of several draws is the sum over the draws.

    Args:
        draws: the evidence, by night.
        mean: the gain of the hypothesis, between -1 and 1, both excluded.
        sign: 1 bets that the gain is larger, -1 that it is smaller.

    Returns:
        One number for each of FRACTIONS.
    """
    won = np.zeros(len(FRACTIONS))
    for draw in draws:
        m = draw.smallest * mean
        sizes = FRACTIONS / (1.0 + sign * m)
        values, counts = np.unique(draw.scaled(), return_counts=True)
        won += np.log1p(np.outer(sizes, sign * (values - m))) @ counts
        won += draw.others * np.log1p(-sizes * sign * m)
    return won


def log_e_value(draws: Sequence[Draw], mean: float, sign: int = 1) -> float:
    """The logarithm of the e-value against the hypothesis that the gain is at most `mean` (with sign -1: at least)."""
    return float(log_mean(log_wealth(draws, mean, sign)))


def log_mean(won: Floats) -> Floats:
    """The logarithm of the mean of exp(won) over the last axis, the sizes of the bets."""
    top = won.max(axis=-1)
    return np.asarray(top + np.log(np.mean(np.exp(won - np.expand_dims(top, -1)), axis=-1)))


def gain(draws: Sequence[Draw]) -> float | None:
    """The estimated mean of the differences over all rows; None without rows."""
    rows = sum(draw.rows for draw in draws)
    total = sum(float((draw.scaled() / draw.smallest).sum()) for draw in draws)
    return total / rows if rows else None


def interval(draws: Sequence[Draw], confidence: float) -> tuple[float, float]:
    """A confidence sequence for the gain: all nights together, it contains the gain with that probability.

    It holds the gains m that neither of two bets, each at half of the error, refutes. Each factor of the first bet,
    1 + f (x + 1) / (1 + p m) - f for a fraction f, decreases with m, so the refuted gains are an interval and its end
    is found by bisection; the second bet is the first one with the signs of x and m reversed.

    Returns:
        Smallest and largest gain.
    """
    limit = math.log(2.0 / (1.0 - confidence))
    low = _end(lambda m: log_e_value(draws, m) >= limit)
    high = -_end(lambda m: log_e_value(draws, -m, -1) >= limit)
    return low, high


def labels_needed(draws: Sequence[Draw], mean: float, log_threshold: float, sign: int = 1) -> int | None:
    """How many more labels would reach the threshold if they are like those so far.

    Each bet goes on growing at its average rate of growth per label so far, to which one row for and one row against
    the challenger are added, so that three lucky labels do not promise a quick end.

    Args:
        draws: the evidence so far.
        mean: the gain of the hypothesis.
        log_threshold: the logarithm of the e-value to reach.
        sign: as in `log_wealth`.

    Returns:
        A number of labels; None if the threshold is not reached within HORIZON labels.
    """
    values = np.concatenate([draw.scaled() for draw in draws]) if draws else np.zeros(0)
    if not values.any():
        return None
    usual, smallest = float(np.abs(values[values != 0]).mean()), draws[-1].smallest
    balance = Draw((usual, -usual), (smallest, smallest), 0, smallest)
    won = log_wealth(draws, mean, sign)
    growth = (won + log_wealth([balance], mean, sign)) / (len(values) + 2)

    def reached(labels: int) -> bool:
        return bool(log_mean(won + labels * growth) >= log_threshold)

    if not reached(HORIZON):
        return None
    # The logarithm of a sum of exponentials is convex in the number of labels, so it crosses the threshold once.
    few, many = 0, HORIZON
    while many - few > 1:
        middle = (few + many) // 2
        few, many = (few, middle) if reached(middle) else (middle, many)
    return many


def _end(refuted: Callable[[float], bool]) -> float:
    """The largest gain that is refuted, where all smaller ones are; -1 if none is."""
    low, high = -1.0, 1.0
    while high - low > EXACT:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low if low > -1.0 + EXACT else -1.0
