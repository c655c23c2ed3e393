"""How much evidence the k-th challenger needs, so that the promotions of all nights together are mostly right.

e-LOND (Xu and Ramdas 2024, Online multiple testing with e-values, arXiv:2311.06412): with weights gamma_k that add up
to 1, challenger k is promoted when its e-value reaches 1 / (alpha gamma_k (R + 1)), where R is the number of promotions
before. The false discovery rate of the promotions stays at most alpha for any number of challengers, also if they
depend on each other; if no challenger is ever better, the probability of any promotion is at most alpha. Here
gamma_k = 1 / (k (k + 1)).
"""

from __future__ import annotations

import math


def threshold(challenger: int, promotions: int, confidence: float) -> float:
    """The e-value that a challenger needs.

    Args:
        challenger: its number, from 1, over the life of the registry; the numbers never start again.
        promotions: promotions by evidence so far.
        confidence: 1 minus the false discovery rate.

    Raises:
        ValueError: the numbers are impossible.
    """
    if challenger < 1 or not 0 <= promotions < challenger:
        raise ValueError(f"challenger {challenger} after {promotions} promotions is impossible")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; give a number between 0 and 1")
    return challenger * (challenger + 1) / ((1.0 - confidence) * (promotions + 1))


def log_threshold(challenger: int, promotions: int, confidence: float) -> float:
    """The logarithm of `threshold`."""
    return math.log(threshold(challenger, promotions, confidence))
