"""The threshold from which a smaller model may answer, certified on rows that both models computed.

A row has the confidence of the smaller model, and both models agree on it or not. The promise for a threshold t is
about the rows that are answered: P(agree | confidence >= t) >= agree. Two samples decide:

1. The first one gives the thresholds that are considered, at equal steps of the share of rows that they answer. In a
   large job both models compute it, and the order begins with the threshold that the second sample certifies most
   likely. In a small one every row that both compute is worth more in the second sample, so the smaller model computes
   the first one alone, and the order begins with a threshold that answers enough rows for a test.
2. The second one, of other rows, tests the highest threshold, then the lower ones in turn, each at the same error,
   until one is not certified. The last certified one is chosen. The large model computes the rows in that order, and
   none after the first threshold that can no longer be certified.

The thresholds and their order are fixed before the second sample is seen, so the probability that the chosen threshold
breaks the promise is at most the error, however many there are: that takes the certification of the first threshold in
the order that breaks it (fixed-sequence testing: Bauer 1991, Multiple testing in clinical trials,
doi:10.1002/sim.4780100609; for thresholds: Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052). One test is
the exact binomial one, whose inversion is the bound of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404). Rows
that are drawn from the job's without replacement vary less than the binomial distribution allows for.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Thresholds that are considered.
STEPS = 50
# Rows of the first sample; at most as many as the second one has.
SURVEYED = 1000
# Where only the smaller model computes the first sample, the first threshold answers this fraction of the second one,
# but at least the rows that a test needs, and at most so many times as many: fewer leave no room for a disagreement by
# chance, and with more a model that is right only where it is surest is given up at once.
START_SHARE, START_MOST = 0.65, 3.0
# By how many standard deviations of chance more than that, so that the second sample has as many.
SLACK = 2.0
# Rows of the second sample: at most this fraction of the job's rows; otherwise in rows that a threshold needs without a
# miss, or 1 % of the rows of a large job, up to the last number.
MOST_SHARE, USUAL, LARGE_SHARE, MOST = 0.1, 10, 0.01, 20
# A small job samples this fraction of its rows, up to so many times the rows that a threshold needs without a miss.
SMALL_SHARE, SMALL = 0.2, 3.3
# The second sample has at least so many times the rows that a threshold needs, as no threshold answers all rows.
ROOM = 4 / 3
# The second sample is computed in so many pieces, of at least so many rows.
PIECES, LEAST_PIECE = 8, 64
# A test that succeeds less often than this is not worth its rows.
HOPE = 0.02

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
# Numbers of rows of a sample.
Numbers = NDArray[np.int64]


@dataclass(frozen=True)
class Sizes:
    """Rows of both samples.

    Attributes:
        first: of the first one.
        second: of the second one.
        explores: whether both models compute the first one.
    """

    first: int
    second: int
    explores: bool


@dataclass(frozen=True)
class Certified:
    """A threshold that keeps the promise.

    Attributes:
        threshold: the least confidence of a row that is answered.
        answered: rows of the second sample at or above it.
        agreed: those on which both models agree.
    """

    threshold: float
    answered: int
    agreed: int


@dataclass(frozen=True)
class Tested:
    """What the second sample says.

    Attributes:
        certified: the lowest threshold that is certified; None if none is.
        compared: rows that the large model computed, those that the smaller one is surest of.
        agreed: those of them on which both models agree.
    """

    certified: Certified | None
    compared: int
    agreed: int


def least_rows(agree: float, error: float) -> int:
    """Answered rows that certify an agreement if all of them agree: 299 for 0.99 at an error of 0.05."""
    return math.ceil(math.log(error) / math.log(agree))


def share_of(error: float, earlier: int) -> float:
    """The error of one measurement, so that all those of a job together break the promise with at most `error`.

    Each measurement may certify a threshold that breaks it. Half of the error is for the first one, a quarter for the
    second, and so on (Bonferroni, for a number of measurements that nobody knows in advance).

    Args:
        error: one minus the confidence.
        earlier: measurements before this one.
    """
    return float(error * 0.5 ** (earlier + 1))


def sizes(rows: int, agree: float, error: float, drawn: int | None = None) -> Sizes | None:
    """Rows of the first and the second sample; None if the job has too few for any threshold to be certified.

    Args:
        rows: rows of the job.
        agree: the agreement to certify.
        error: of the measurement.
        drawn: rows that there are for both samples, if they can be fewer than are wanted.
    """
    least = least_rows(agree, error)
    second = int(min(MOST_SHARE * rows, max(USUAL * least, min(LARGE_SHARE * rows, MOST * least))))
    second = max(second, int(min(SMALL_SHARE * rows, SMALL * least)))
    first = min(SURVEYED, second)
    # A large job, in which both samples together are at most a tenth of the rows.
    explores = second >= USUAL * least and first + second <= MOST_SHARE * rows
    if second < int(ROOM * least):
        return None
    if drawn is not None and drawn < first + second:
        # Some of the rows at the drawn places have nothing to annotate: of both samples the same share is missing.
        first = first * drawn // (first + second)
        second = drawn - first
    return Sizes(first, second, explores) if second >= least else None


def rows_needed(agree: float, error: float, sample: int = 0) -> int | None:
    """Rows of the smallest job that `sizes` finds large enough.

    Args:
        agree: the agreement to certify.
        error: of the measurement.
        sample: rows that the second sample must have, if more than the least that can certify anything.

    Returns:
        None if no job, however large, has a sample of so many rows.
    """
    least = least_rows(agree, error)
    wanted = max(sample, int(ROOM * least))
    if wanted > MOST * least:
        return None
    share = SMALL_SHARE if wanted <= SMALL * least else MOST_SHARE if wanted <= USUAL * least else LARGE_SHARE
    return math.ceil(wanted / share) + 1


def order(surveyed: Floats, rows: int, agree: float, error: float, agreed: Bools | None = None) -> Floats:
    """The thresholds to test in turn, descending.

    Args:
        surveyed: confidences of the smaller model on the first sample, `(rows,)`; -inf for a row that it cannot answer.
        rows: rows of the second one.
        agree: the agreement to certify.
        error: of the measurement.
        agreed: whether both models agree on each row of the first sample, `(rows,)`; None if only one computed it.

    Returns:
        Thresholds, `(thresholds,)`; none if the first sample rules all of them out.
    """
    if not len(surveyed) or not rows:
        return np.zeros(0)
    start = 1 / STEPS if agreed is not None else _start(rows, len(surveyed), least_rows(agree, error))
    places = np.ceil(np.linspace(start, 1, STEPS) * len(surveyed)).astype(int) - 1
    thresholds = np.unique(np.sort(surveyed)[::-1][places])[::-1]
    thresholds = thresholds[np.isfinite(thresholds)]
    if agreed is None or not len(thresholds):
        return thresholds
    above = surveyed >= thresholds[:, None]
    answered, missed = above.sum(1), (above & ~agreed).sum(1)
    # The probability that each is certified, if the rate of disagreement has Jeffreys' prior.
    counts = np.maximum(1, answered / len(surveyed) * rows).astype(int)
    allowed = counts - stats.binom.isf(error, counts, agree).astype(int) - 1
    likely = stats.betabinom.cdf(allowed, counts, missed + 0.5, answered - missed + 0.5)
    best = int(likely.argmax())
    return thresholds[best:] if likely[best] >= HOPE else thresholds[:0]


def _start(rows: int, surveyed: int, least: int) -> float:
    """The fraction of the rows that the first threshold answers, of which nothing but the confidence is known."""
    start = min(1.0, float(np.clip(START_SHARE * rows, least, START_MOST * least)) / rows)
    return min(1.0, start + SLACK * math.sqrt(start * (1 - start) * (1 / rows + 1 / surveyed)))


def certify(
    confidences: Floats, thresholds: Floats, agree: float, error: float, compare: Callable[[Numbers], Bools]
) -> Tested:
    """The lowest threshold that is certified.

    Args:
        confidences: of the smaller model on the second sample, `(rows,)`; -inf for a row that it cannot answer.
        thresholds: in the order in which they are tested, fixed before the sample was seen.
        agree: the agreement to certify.
        error: the probability with which the result may break the promise.
        compare: has the large model compute some of these rows, and says of each whether both models agree; not so on
            a row that the large one cannot compute.
    """
    surest = np.argsort(-confidences, kind="stable")
    piece = max(LEAST_PIECE, math.ceil(len(surest) / PIECES))
    agreed = np.zeros(0, bool)
    found = None
    for threshold in thresholds:
        answered = int((confidences >= threshold).sum())
        while (is_open := _is_certified(agreed[:answered], answered, agree, error)) and len(agreed) < answered:
            agreed = np.concatenate([agreed, compare(surest[len(agreed) : len(agreed) + piece])])
        if not is_open:
            break
        found = Certified(float(threshold), answered, int(agreed[:answered].sum()))
    return Tested(found, len(agreed), int(agreed.sum()))


def _is_certified(agreed: Bools, answered: int, agree: float, error: float) -> bool:
    """Whether so many answered rows certify the agreement if all rows that are not compared yet agree."""
    # The probability of as few disagreements, or fewer, if the models agree exactly as often as is to be certified.
    return bool(stats.binom.cdf(int((~agreed).sum()), answered, 1 - agree) <= error)
