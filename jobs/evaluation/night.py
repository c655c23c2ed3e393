"""How good a whole night was, from the few rows that people corrected and the scores of all the others.

Source: prediction-powered inference (Angelopoulos et al., Science 2023; tuned as in PPI++, arXiv 2311.01453) with
rows drawn by their uncertainty (active inference: Zrnic and Candes, arXiv 2403.03208). With f the probability that a
row is right, pi the probability with which it was drawn, xi = 1 if it was drawn, c = how right it turned out to be, m
the mean of c, and g = m + lambda (f - m), the accuracy of the night is

    theta = (1/N) sum over all N rows of [g + xi (c - g) / pi]

which is unbiased whatever f is; the better f is, the narrower the interval. f, m and lambda of a row are learnt from
corrected rows of other folds than its own (cross-fitting), so that a row never predicts itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from jobs.evaluation import calibration
from jobs.evaluation.bootstrap import Interval
from transforms.errors import SpecError

FOLDS = 5

# With fewer right or wrong rows than this, their spread says too little, and the intervals are no narrower than those
# of equally many rows of equal weight.
FEW = 10


@dataclass(frozen=True)
class Night:
    """The accuracy of a night.

    Attributes:
        estimate: from the corrected rows and the scores of all rows.
        classical: from the corrected rows alone, weighted by 1 / drawing probability.
        rows: rows of the night.
        corrected: corrected rows.
        weight: lambda, how much the scores counted, from 0 (not at all) to 1.
        few: whether so few rows were right, or wrong, that the intervals are widened.
        share: corrected rows among those drawn; below 1, rows still to be corrected are taken to be like the others.
    """

    estimate: Interval
    classical: Interval
    rows: int
    corrected: int
    weight: float
    few: bool
    share: float = 1.0

    @property
    def narrower(self) -> float:
        """Width of the interval over the width of the classical one."""
        return (self.estimate.high - self.estimate.low) / max(self.classical.high - self.classical.low, 1e-12)

    def sentence(self) -> str:
        """The result for a report."""
        one, other = self.estimate, self.classical
        text = (
            f"{one.value:.1%} of the {self.rows:,} rows are right ({one.confidence:.0%} interval {one.low:.1%} to "
            f"{one.high:.1%}), from {self.corrected:,} corrected rows and the scores of all; from the corrected rows "
            f"alone {other.value:.1%} ({other.low:.1%} to {other.high:.1%})"
        )
        if self.share < 1:
            text += f"; {self.share:.0%} of the drawn rows are corrected, and the others are taken to be like them"
        return text

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"narrower": self.narrower}


def accuracy(
    scores: np.ndarray,
    corrected: np.ndarray,
    correct: np.ndarray,
    probability: np.ndarray,
    confidence: float = 0.95,
    drawn: int | None = None,
    seed: int = 0,
) -> Night:
    """The accuracy of a night with its interval, beside the classical one.

    Rows must have been drawn independently of each other, each with its recorded probability (Poisson sampling): from
    the most uncertain rows alone no interval follows.

    Args:
        scores: the model's own score of every row of the night, float `(rows,)`; NaN if unknown.
        corrected: indices of the corrected rows, int `(n,)`.
        correct: how right the model was on each of them, from 0 to 1, `(n,)`.
        probability: with which each of them was drawn, in (0, 1], `(n,)`.
        confidence: of the intervals, two-sided.
        drawn: number of drawn rows, if not all of them have been corrected yet.
        seed: of the division into folds.

    Raises:
        SpecError: there are no corrected rows, or a probability or a correctness is out of range.
    """
    corrected, correct, probability = np.asarray(corrected), np.asarray(correct, float), np.asarray(probability, float)
    _check(scores, corrected, correct, probability)
    share = 1.0 if drawn is None else min(1.0, len(corrected) / drawn)
    probability = probability * share
    rows, weights = len(scores), 1 / probability
    classical, classical_error = _classical(correct, probability, rows)
    guess, weight = _cross_fitted(np.asarray(scores, float), corrected, correct, probability, seed)
    residual = correct - guess[corrected]
    value = float(guess.mean() + (weights * residual).sum() / rows)
    error = float(np.sqrt(((1 - probability) * (weights * residual) ** 2).sum())) / rows
    few = min(correct.sum(), (1 - correct).sum()) < FEW
    effective = float(weights.sum() ** 2 / (weights**2).sum())
    return Night(
        _interval(value, error, effective, few, confidence),
        _interval(classical, classical_error, effective, few, confidence),
        rows,
        len(corrected),
        weight,
        bool(few),
        share,
    )


def _check(scores: np.ndarray, corrected: np.ndarray, correct: np.ndarray, probability: np.ndarray) -> None:
    if not len(corrected):
        raise SpecError("no row of the night has been corrected yet, so its accuracy cannot be estimated")
    if not len(corrected) == len(correct) == len(probability):
        raise SpecError(
            f"there are {len(corrected)} corrected rows, {len(correct)} corrections and {len(probability)} drawing "
            "probabilities; give one of each for every row"
        )
    if len(np.unique(corrected)) < len(corrected) or corrected.min() < 0 or corrected.max() >= len(scores):
        raise SpecError(f"the corrected rows must be different rows among the {len(scores)} of the night")
    if not ((probability > 0) & (probability <= 1)).all():
        bad = probability[~((probability > 0) & (probability <= 1))][0]
        raise SpecError(f"a corrected row has the drawing probability {bad}; it must be above 0 and at most 1")
    if not ((correct >= 0) & (correct <= 1)).all():
        raise SpecError("the correctness of a row must be from 0 (wrong) to 1 (right)")


def _classical(correct: np.ndarray, probability: np.ndarray, rows: int) -> tuple[float, float]:
    """Hajek's weighted mean, and its standard error; narrower than dividing by the known number of rows."""
    weights = 1 / probability
    value = float(np.average(correct, weights=weights))
    total = weights.sum()
    return value, float(np.sqrt(((1 - probability) * (weights * (correct - value)) ** 2).sum())) / total


def _cross_fitted(
    scores: np.ndarray, corrected: np.ndarray, correct: np.ndarray, probability: np.ndarray, seed: int
) -> tuple[np.ndarray, float]:
    """G of every row, learnt without the corrected rows of its own fold, and the mean of lambda."""
    fold_of = np.random.default_rng(seed).integers(0, FOLDS, len(scores))
    own, weights = fold_of[corrected], 1 / probability
    guess, used = np.empty(len(scores)), []
    for fold in range(FOLDS):
        others = own != fold
        if not others.any():
            others = np.ones(len(corrected), bool)
        c, w, pi = correct[others], weights[others], probability[others]
        learnt = calibration.fit(scores[corrected][others], c, w)
        f = learnt(scores[corrected][others])
        mean = float(np.average(c, weights=w))
        # Least squares of the residuals with the weights of their variance, as in PPI++.
        spread = (1 - pi) * w**2
        slope = (spread * (c - mean) * (f - mean)).sum() / max((spread * (f - mean) ** 2).sum(), 1e-12)
        weight = float(np.clip(slope, 0, 1))
        used.append(weight)
        inside = fold_of == fold
        guess[inside] = mean + weight * (learnt(scores[inside]) - mean)
    return guess, float(np.mean(used))


def _interval(value: float, error: float, kish: float, few: bool, confidence: float) -> Interval:
    """Wilson's interval (1927) with the number of plain rows that would give the same standard error.

    As for samples of surveys (Korn and Graubard, 1998). It is right near 0 and 1, where estimate plus or minus two
    standard errors covers too rarely: 90 % instead of 95 % with 20 mistakes in 400 rows.

    Args:
        value: the estimate.
        error: its standard error.
        kish: effective number of rows by their weights (Kish, 1965).
        few: whether the standard error may be too small by chance.
        confidence: of the interval.
    """
    from scipy.stats import t

    value = min(1.0, max(0.0, value))
    spread = value * (1 - value)
    plain = spread / error**2 if error > 0 and spread > 0 else kish
    plain = min(plain, kish) if few else plain
    z = float(t.ppf((1 + confidence) / 2, max(1.0, kish - 1)))
    centre = (value + z**2 / (2 * plain)) / (1 + z**2 / plain)
    half = z / (1 + z**2 / plain) * np.sqrt(spread / plain + z**2 / (4 * plain**2))
    return Interval(value, float(max(0.0, centre - half)), float(min(1.0, centre + half)), confidence)
