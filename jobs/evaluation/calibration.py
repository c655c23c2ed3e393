"""A model's scores -> the probability that a row is right, learnt from corrected rows.

Source: Platt scaling (Platt, 1999): logistic regression of right or wrong on the log-odds of the score. Two parameters
suit the few hundred rows that people correct; isotonic regression needs thousands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

if TYPE_CHECKING:
    from threadpoolctl import ThreadpoolController

# Scores are moved away from 0 and 1 by this much, whose log-odds are infinite.
EDGE = 1e-4


def scores_of(predictions: pa.Array) -> np.ndarray:
    """How sure the model is of each row, float64 `(rows,)` from 0 to 1; NaN where its column does not say.

    Args:
        predictions: what `classify` gives (the score of the best label), or `ner` (the lowest score of a row's
            entities; NaN for a row without entities). Other columns have no scores.
    """
    if isinstance(predictions, pa.ChunkedArray):
        predictions = predictions.combine_chunks()
    type_ = predictions.type
    if pa.types.is_struct(type_) and type_.get_field_index("score") >= 0:
        scores = pc.struct_field(predictions, "score")
        return scores.cast(pa.float64()).to_numpy(zero_copy_only=False)
    if pa.types.is_list(type_) and pa.types.is_struct(type_.value_type):
        if type_.value_type.get_field_index("score") < 0:
            return np.full(len(predictions), np.nan)
        is_ner = type_.value_type.get_field_index("start") >= 0
        rows = [[entry["score"] for entry in row or ()] for row in predictions.to_pylist()]
        return np.array([np.nan if not row else min(row) if is_ner else row[0] for row in rows], np.float64)
    return np.full(len(predictions), np.nan)


@dataclass(frozen=True)
class Calibration:
    """P(right) as a function of the score: 1 / (1 + exp(-(slope * log-odds + offset))).

    Attributes:
        slope: 1 if the log-odds of the scores are right up to a shift; 0 if the scores say nothing.
        offset: log-odds of being right at a score of one half.
        unknown: P(right) of a row without a score.
    """

    slope: float
    offset: float
    unknown: float

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        """P(right) of each score, `(rows,)`."""
        known = np.isfinite(scores)
        chance = np.full(len(scores), self.unknown)
        chance[known] = 1 / (1 + np.exp(-(self.slope * log_odds(scores[known]) + self.offset)))
        return chance


def log_odds(scores: np.ndarray) -> np.ndarray:
    """ln(p / (1 - p)) of each score."""
    inside = np.clip(scores, EDGE, 1 - EDGE)
    return np.log(inside / (1 - inside))


def fit(scores: np.ndarray, correct: np.ndarray, weights: np.ndarray) -> Calibration:
    """Learn P(right) from corrected rows.

    Args:
        scores: of the corrected rows, NaN if unknown.
        correct: how right each is, from 0 to 1.
        weights: 1 / drawing probability of each.
    """
    from sklearn.linear_model import LogisticRegression

    known = np.isfinite(scores)
    # One right and one wrong row in a thousand of imagined ones keep the chance away from 0 and 1.
    mean = float((np.average(correct, weights=weights) * len(correct) + 0.5) / (len(correct) + 1))
    odds = float(np.log(mean / (1 - mean)))
    right = (weights * correct)[known].sum()
    wrong = (weights * (1 - correct))[known].sum()
    if known.sum() < 10 or not right or not wrong or np.ptp(scores[known]) == 0:
        return Calibration(0.0, odds, mean)
    x = np.repeat(log_odds(scores[known]), 2)[:, None]
    y = np.tile([1, 0], int(known.sum()))
    shares = np.stack([correct[known], 1 - correct[known]], axis=1)
    scale = weights[known] / weights[known].mean()
    sample = (shares * scale[:, None]).ravel()
    kept = sample > 0
    # Threads that wait for each other take twenty times as long for so few rows.
    with _libraries().limit(limits=1):
        model = LogisticRegression(C=1.0).fit(x[kept], y[kept], sample_weight=sample[kept])
    return Calibration(float(model.coef_[0, 0]), float(model.intercept_[0]), mean)


@cache
def _libraries() -> ThreadpoolController:
    """The libraries with threads that scikit-learn has loaded; call it after that import.

    They are searched for once: the search reads every library of the process, which beside PyTorch and Arrow takes
    longer than the fit.
    """
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


@dataclass(frozen=True)
class Bin:
    """The corrected rows whose scores lie in one range.

    Attributes:
        low: lowest score of the range.
        high: highest score of the range.
        corrected: corrected rows in it.
        score: mean score of the whole night's rows in it, estimated.
        accuracy: their accuracy, estimated.
    """

    low: float
    high: float
    corrected: int
    score: float
    accuracy: float


def table(scores: np.ndarray, correct: np.ndarray, probability: np.ndarray, bins: int = 10) -> list[Bin]:
    """Scores against accuracies, for a reliability diagram; ranges without corrected rows are left out.

    Args:
        scores: of the corrected rows.
        correct: how right each is, from 0 to 1.
        probability: with which each was drawn.
        bins: number of ranges of equal width.
    """
    weights = 1 / probability
    place = np.minimum((np.nan_to_num(scores, nan=-1) * bins).astype(int), bins - 1)
    found = []
    for i in range(bins):
        inside = (place == i) & np.isfinite(scores)
        if inside.any():
            found.append(
                Bin(
                    i / bins,
                    (i + 1) / bins,
                    int(inside.sum()),
                    float(np.average(scores[inside], weights=weights[inside])),
                    float(np.average(correct[inside], weights=weights[inside])),
                )
            )
    return found


def error(found: Sequence[Bin], share: Sequence[float] | None = None) -> float:
    """Expected calibration error: mean distance of score and accuracy, by the corrected rows of each range.

    Args:
        found: from `table`.
        share: the share of the night's rows in each range; by default that of the corrected rows.
    """
    shares: Any = [each.corrected for each in found] if share is None else share
    return float(np.average([abs(each.score - each.accuracy) for each in found], weights=shares))
