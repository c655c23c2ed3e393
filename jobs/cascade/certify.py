"""The threshold from which a smaller model may answer, certified on rows that both models computed.

A row has the confidence of the smaller model, and both models agree on it or not. The promise for a threshold t is
about the rows that are answered: P(agree | confidence >= t) >= agree. Two samples decide:

1. The first one explores. Its confidences give the thresholds that are considered, at equal steps of the share of rows
   that they answer, and its agreement says which of them a test of the second sample certifies most likely.
2. The second one, of other rows, tests that threshold, then the lower ones in turn, each at the same error, until one
   is not certified. The last certified one is chosen.

The thresholds and their order are fixed before the second sample is seen, so the probability that the chosen threshold
breaks the promise is at most the error, however many there are: that takes the certification of the first threshold in
the order that breaks it (fixed-sequence testing: Bauer 1991, Multiple testing in clinical trials,
doi:10.1002/sim.4780100609; for thresholds: Angelopoulos et al. 2021, Learn then Test, arXiv:2110.01052). One test is
the exact binomial one, whose inversion is the bound of Clopper and Pearson (1934, doi:10.1093/biomet/26.4.404). Rows
that are drawn from the job's without replacement vary less than the binomial distribution allows for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

# Thresholds that are considered answer 2 %, 4 %, ... of the rows.
STEPS = 50
# Rows of the first sample, and the fraction of all sampled rows if they are few.
EXPLORED, EXPLORED_SHARE = 1000, 0.25
# Sampled rows of a job: at most this fraction of its rows; otherwise in rows that a threshold needs without a miss, or
# 1 % of the rows of a large job, up to the last number.
MOST_SHARE, USUAL, LARGE_SHARE, MOST = 0.1, 10, 0.01, 20
# A test that succeeds less often than this is not worth its rows.
HOPE = 0.02

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Rows:
    """Rows that both models computed.

    Attributes:
        confidences: of the smaller model, `(rows,)`; -inf for a row that it cannot answer.
        agreed: whether both models agree, `(rows,)`; not so on a row that the large model cannot compute.
    """

    confidences: Floats
    agreed: Bools

    def answered(self, threshold: float) -> tuple[int, int]:
        """Rows at or above a threshold, and those of them on which the models agree."""
        answered = self.confidences >= threshold
        return int(answered.sum()), int(self.agreed[answered].sum())


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


def sizes(rows: int, agree: float, error: float, drawn: int | None = None) -> tuple[int, int] | None:
    """Rows of the first and the second sample; None if the job has too few for any threshold to be certified.

    Args:
        rows: rows of the job.
        agree: the agreement to certify.
        error: of the measurement.
        drawn: rows that there are for both samples, if they can be fewer than are wanted.
    """
    least = least_rows(agree, error)
    most = int(min(MOST_SHARE * rows, max(USUAL * least, min(LARGE_SHARE * rows, MOST * least))))
    most = most if drawn is None else min(most, drawn)
    first = min(EXPLORED, int(EXPLORED_SHARE * most))
    return (first, most - first) if most - first >= least else None


def rows_needed(agree: float, error: float, sample: int = 0) -> int | None:
    """Rows of the smallest job that `sizes` finds large enough.

    Args:
        agree: the agreement to certify.
        error: of the measurement.
        sample: rows that both samples must have together, if more than the least that can certify anything.

    Returns:
        None if no job, however large, has a sample of so many rows.
    """
    least = least_rows(agree, error)
    wanted = max(sample, min(least / (1 - EXPLORED_SHARE), least + EXPLORED))
    if wanted > MOST * least:
        return None
    return math.ceil(wanted / (MOST_SHARE if wanted <= USUAL * least else LARGE_SHARE)) + 1


def order(explored: Rows, rows: int, agree: float, error: float) -> Floats:
    """The thresholds to test in turn, descending: from the one that is certified most likely down.

    Args:
        explored: the first sample.
        rows: rows of the second one.
        agree: the agreement to certify.
        error: of the measurement.

    Returns:
        Thresholds, `(thresholds,)`; none if the models agree too little on the first sample for any of them.
    """
    ordered = np.sort(explored.confidences)[::-1]
    places = np.ceil(np.arange(1, STEPS + 1) / STEPS * len(ordered)).astype(int) - 1
    thresholds = np.unique(ordered[places[places >= 0]])[::-1]
    thresholds = thresholds[np.isfinite(thresholds)]
    if not len(thresholds):
        return thresholds
    answered, agreed = np.array([explored.answered(threshold) for threshold in thresholds], float).T
    # The probability that each is certified, if the rate of disagreement has Jeffreys' prior.
    share = answered / len(ordered)
    counts = np.maximum(1, share * rows).astype(int)
    allowed = counts - stats.binom.isf(error, counts, agree).astype(int) - 1
    likely = stats.betabinom.cdf(allowed, counts, answered - agreed + 0.5, agreed + 0.5)
    start = int(likely.argmax())
    return thresholds[start:] if likely[start] >= HOPE else thresholds[:0]


def certify(tested: Rows, thresholds: Floats, agree: float, error: float) -> Certified | None:
    """The lowest threshold that is certified.

    Args:
        tested: the second sample.
        thresholds: in the order in which they are tested, fixed before the sample was seen.
        agree: the agreement to certify.
        error: the probability with which the result may break the promise.

    Returns:
        None if no threshold is certified.
    """
    found = None
    for threshold in thresholds:
        answered, agreed = tested.answered(threshold)
        # The probability that as many agree, or more, if they agree exactly as often as is to be certified.
        if not answered or stats.binom.sf(agreed - 1, answered, agree) > error:
            break
        found = Certified(float(threshold), answered, agreed)
    return found
