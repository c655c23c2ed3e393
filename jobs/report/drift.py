"""Whether the labels, scores or text lengths of a run are distributed as in the last nights.

Source: the population stability index of credit scoring, sum of (p - q) * ln(p / q) over the bins; N. Siddiqi, Credit
Risk Scorecards (2006), calls less than 0.1 no change and more than 0.25 a large one. Between two samples of one
distribution it is about chi-squared with (bins - 1) degrees of freedom times (1 / n + 1 / m); B. Yurdakul, Statistical
Properties of Population Stability Index (2018). So the threshold is higher for a night with few rows.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from jobs.report.findings import LENGTH_EDGES, SCORE_EDGES, Findings

# Number of earlier runs whose sum is compared with this run.
NIGHTS = 7
MOVED = 0.2
# The threshold covers sampling noise: its mean plus this many standard deviations.
SIGMAS = 3


@dataclass(frozen=True)
class Drift:
    """One distribution, compared with that of the last nights.

    Attributes:
        what: name of the distribution, such as `labels of sentiment`.
        psi: population stability index.
        threshold: above this it counts as moved: the limit, or more if there are few rows.
        largest: the bin with the largest change of its share, with both shares.
    """

    what: str
    psi: float
    threshold: float
    largest: str

    @property
    def moved(self) -> bool:
        """Whether the distribution has changed."""
        return self.psi > self.threshold


def compare(tonight: Findings, before: Sequence[Findings], limit: float = MOVED) -> list[Drift]:
    """Every distribution that this run and the last nights both have, the largest change first.

    Args:
        tonight: findings of this run.
        before: those of the last nights, which are added up.
        limit: threshold of a night with many rows.
    """
    found = []
    for name, labels in tonight.labels.items():
        earlier: Counter[str] = Counter()
        for night in before:
            earlier.update(night.labels.get(name, {}))
        found.append(_drift(f"labels of {name}", labels, earlier, limit))
    for name, scores in tonight.scores.items():
        nights = [night.scores[name] for night in before if name in night.scores]
        found.append(_drift(f"scores of {name}", *_binned(scores, nights, SCORE_EDGES), limit))
    lengths = [night.lengths for night in before]
    found.append(_drift("text lengths", *_binned(tonight.lengths, lengths, LENGTH_EDGES), limit))
    return sorted((drift for drift in found if drift is not None), key=lambda drift: -drift.psi)


def _binned(
    tonight: Sequence[int], nights: Sequence[Sequence[int]], edges: np.ndarray
) -> tuple[dict[str, int], dict[str, int]]:
    names = [f"{low:g} to {high:g}" for low, high in pairwise(edges)]
    sums = np.sum(nights, axis=0, dtype=int) if nights else np.zeros(len(names), int)
    return dict(zip(names, tonight, strict=True)), dict(zip(names, sums.tolist(), strict=True))


def _drift(what: str, tonight: Mapping[str, int], before: Mapping[str, int], limit: float) -> Drift | None:
    bins = sorted({name for counts in (tonight, before) for name, count in counts.items() if count})
    p, q = (np.array([counts.get(name, 0) for name in bins], float) for counts in (tonight, before))
    n, m = p.sum(), q.sum()
    if not n or not m:
        return None
    # Half a row is added to every bin, so that an empty bin does not give an infinite change.
    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(bins)) for counts in (p, q))
    psi = float(np.sum((p - q) * np.log(p / q)))
    freedom = len(bins) - 1
    noise = (freedom + SIGMAS * np.sqrt(2 * freedom)) * (1 / n + 1 / m)
    largest = int(np.argmax(np.abs(p - q)))
    change = f"{bins[largest]}: {q[largest]:.1%} to {p[largest]:.1%}"
    return Drift(what, round(psi, 4), round(max(limit, float(noise)), 4), change)
