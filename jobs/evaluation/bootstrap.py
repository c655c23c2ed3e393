"""Intervals for macro F1, which is no mean over rows, and for means: the percentile bootstrap (Efron, 1979)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from transforms.errors import SpecError


@dataclass(frozen=True)
class Interval:
    """A value and where it may lie.

    Attributes:
        value: the estimate.
        low: lower end.
        high: upper end.
        confidence: how often such an interval contains the true value, such as 0.95.
    """

    value: float
    low: float
    high: float
    confidence: float


def macro_f1(
    true: Sequence[str],
    found: Sequence[str | None],
    confidence: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> Interval:
    """Macro F1 over the labels that the truth has, and its interval.

    Args:
        true: true label of each row.
        found: predicted label of each row; None counts as wrong.
        confidence: of the interval, two-sided.
        repeats: bootstrap samples; their number limits the precision of the ends, not their truth.
        seed: of the sampling; the same rows and seed give the same interval.

    Raises:
        SpecError: there are no rows.
    """
    cells, counts, classes = _cells(true, [found])
    value = _macro(counts[None], cells[:, 0], cells[:, 1], classes)[0]
    samples = _samples(counts, repeats, seed)
    drawn = _macro(samples, cells[:, 0], cells[:, 1], classes)
    return _interval(value, drawn, confidence)


def macro_f1_gain(
    true: Sequence[str],
    before: Sequence[str | None],
    after: Sequence[str | None],
    confidence: float = 0.95,
    repeats: int = 2000,
    seed: int = 0,
) -> Interval:
    """How much higher the macro F1 of `after` is than that of `before`, on the same rows, and its interval.

    Both are computed on the same samples, so that rows on which they agree add no noise. Arguments as of `macro_f1`.

    Raises:
        SpecError: there are no rows.
    """
    cells, counts, classes = _cells(true, [before, after])

    def gains(weights: np.ndarray) -> np.ndarray:
        one, other = (_macro(weights, cells[:, 0], cells[:, side], classes) for side in (1, 2))
        return other - one

    return _interval(gains(counts[None])[0], gains(_samples(counts, repeats, seed)), confidence)


def mean(values: np.ndarray, confidence: float = 0.95, repeats: int = 2000, seed: int = 0) -> Interval:
    """The mean of some rows' values, and its interval.

    Args:
        values: one number for each row, at least one row.
        confidence: of the interval, two-sided.
        repeats: bootstrap samples.
        seed: of the sampling.
    """
    distinct, counts = np.unique(values, return_counts=True)
    samples = _samples(counts.astype(np.float64), repeats, seed) @ distinct / len(values)
    return _interval(float(np.mean(values)), samples, confidence)


def _cells(true: Sequence[str], columns: Sequence[Sequence[str | None]]) -> tuple[np.ndarray, np.ndarray, int]:
    """The distinct rows of label numbers, how often each occurs, and the number of true labels.

    True labels have the first numbers; whatever else is predicted has the number after them.
    """
    if not len(true):
        raise SpecError("the holdout has no rows, so macro_f1 cannot be computed; add labelled rows to data.holdout")
    numbers: dict[str | None, int] = {label: i for i, label in enumerate(sorted(set(true)))}
    other = len(numbers)
    coded = np.array([[numbers.get(label, other) for label in column] for column in (true, *columns)]).T
    cells, counts = np.unique(coded, axis=0, return_counts=True)
    return cells, counts.astype(np.float64), other


def _samples(counts: np.ndarray, repeats: int, seed: int) -> np.ndarray:
    """How often each distinct row is in each sample, `(repeats, cells)`."""
    total = int(counts.sum())
    return np.random.default_rng(seed).multinomial(total, counts / total, size=repeats).astype(np.float64)


def _macro(weights: np.ndarray, true: np.ndarray, found: np.ndarray, classes: int) -> np.ndarray:
    """Macro F1 of each sample `(repeats,)`, over the labels that are true for a row of the sample.

    Args:
        weights: rows of each kind, `(repeats, cells)`.
        true: number of the true label, `(cells,)`.
        found: number of the predicted label, `(cells,)`.
        classes: number of true labels.
    """
    of_true, of_found = (np.eye(classes + 1)[column] for column in (true, found))
    support, guessed = (weights @ of_true)[:, :classes], (weights @ of_found)[:, :classes]
    right = (weights @ (of_true * of_found))[:, :classes]
    f1 = 2 * right / np.maximum(support + guessed, 1)
    present = support > 0
    return (f1 * present).sum(axis=1) / np.maximum(present.sum(axis=1), 1)


def _interval(value: float, samples: np.ndarray, confidence: float) -> Interval:
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return Interval(float(value), float(low), float(high), confidence)
