"""Which rows of a night are drawn for labels, each with its probability of having been drawn.

Poisson sampling: each row is decided by a hash of its key and by its own probability. Workers need not agree with
each other, and a second attempt at a run draws the same rows. A uniform draw and one that prefers uncertain rows, with
a probability proportional to sqrt(f (1 - f)) of the score f (Zrnic and Candes, arXiv 2403.03208), are independent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# The share of the expected draw that is uniform. Without a uniform part no row may feed a holdout.
UNIFORM_SHARE = {"random": 1.0, "mixed": 0.5, "uncertain": 0.0}


@dataclass(frozen=True)
class Draw:
    """A draw, one value per row.

    Attributes:
        uniform: True where the uniform draw took the row; such rows may feed a holdout.
        uncertain: True where only the draw of uncertain rows took it.
        probability: the probability that either draw takes the row, in [0, 1].
    """

    uniform: np.ndarray
    uncertain: np.ndarray
    probability: np.ndarray


def draw(keys: Sequence[str], scores: np.ndarray, rows: float, by: str, seed: str) -> Draw:
    """Draw rows so that `rows` of them are expected, or all if there are fewer.

    Args:
        keys: identity of each row, without repeats.
        scores: the model's score of each row in [0, 1]; a row without one, NaN, counts as most uncertain.
        rows: expected number of rows.
        by: random, mixed or uncertain.
        seed: for example the run; another seed draws other rows.
    """
    count = len(keys)
    if not count:
        return Draw(np.zeros(0, bool), np.zeros(0, bool), np.zeros(0))
    expected = min(rows, count)
    uniform = UNIFORM_SHARE[by] * expected / count
    # Rows that the uniform draw takes cannot be taken again, so the other draw is larger by as much.
    rest = 0.0 if uniform == 1 else (expected - uniform * count) / (1 - uniform)
    score = np.clip(np.nan_to_num(scores, nan=0.5), 0, 1)
    uncertain = _proportional(np.sqrt(score * (1 - score)), rest)
    taken = positions(keys, f"{seed}/uniform") < uniform
    also = positions(keys, f"{seed}/uncertain") < uncertain
    return Draw(taken, also & ~taken, 1 - (1 - uniform) * (1 - uncertain))


def draw_alike(keys: Sequence[str], rows: float, seed: str) -> tuple[np.ndarray, float]:
    """Draw uniformly, so that `rows` rows are expected, or all if there are fewer; independent of `draw`.

    Args:
        keys: identity of each row, without repeats.
        rows: expected number of rows.
        seed: another seed draws other rows, also than `draw` with the same seed.

    Returns:
        Whether each row was drawn, bool `(rows,)`, and the probability with which each could be.
    """
    probability = min(1.0, rows / len(keys)) if len(keys) else 1.0
    return positions(keys, f"{seed}/alike") < probability, probability


def _proportional(weights: np.ndarray, total: float) -> np.ndarray:
    """Probabilities proportional to weights, at most 1, with the sum `total`."""
    # A row with a score of exactly 0 or 1 can be drawn too, or no estimate could be unbiased.
    weights = np.maximum(weights, 1e-3)
    certain = np.zeros(len(weights), bool)
    while True:
        left = total - certain.sum()
        found = np.where(certain, 1.0, 0.0)
        if certain.all():
            return found
        found[~certain] = left * weights[~certain] / weights[~certain].sum()
        over = (found > 1) & ~certain
        if not over.any():
            return found
        certain |= over


def positions(keys: Sequence[str], seed: str) -> np.ndarray:
    """A number in [0, 1) for each key, uniform over seeds."""
    digests = (hashlib.blake2b(f"{seed}/{key}".encode(), digest_size=8).digest() for key in keys)
    # 53 bits are what a float64 holds: with 64 a position could be rounded up to 1.
    return np.array([(int.from_bytes(each, "big") >> 11) / 2**53 for each in digests])
