"""How well two columns of the same task agree, one computed in low precision and one in float32."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa

# Scores of a model with one label agree if they differ by at most this many standard deviations of the exact scores.
CLOSE = 0.1


def agreement(exact: pa.Array, rounded: pa.Array) -> float:
    """Mean agreement of the rows, from 0 to 1.

    Args:
        exact: a task's column, computed in float32.
        rounded: the same column, computed in lower precision.

    Returns:
        For vectors the cosine; for labels the share of rows with the same best label; for spans and other lists the F1
        of their entries, scores ignored; for texts the share of equal texts; for a model with one label the share of
        scores that differ by at most a tenth of their standard deviation.
    """
    both = exact.is_valid().to_numpy(zero_copy_only=False) & rounded.is_valid().to_numpy(zero_copy_only=False)
    one_sided = (exact.null_count - rounded.null_count) != 0
    if not both.any():
        return 0.0 if one_sided else 1.0
    kept = pa.array(both)
    exact, rounded = exact.filter(kept), rounded.filter(kept)
    if _is_vector(exact.type):
        return float(np.mean(_cosines(exact, rounded)))
    pairs = list(zip(exact.to_pylist(), rounded.to_pylist(), strict=True))
    if len({label for row, _ in pairs for label in _labels(row)}) == 1 and pa.types.is_struct(exact.type):
        return _close(exact.field("score"), rounded.field("score"))
    return float(np.mean([_alike(one, other) for one, other in pairs]))


def _alike(one: Any, other: Any) -> float:
    if not isinstance(one, list):
        return float(_without_scores(one) == _without_scores(other))
    if _is_ranking(one) and _is_ranking(other):
        return float(_without_scores(one[0]) == _without_scores(other[0]))
    mine, theirs = Counter(map(_without_scores, one)), Counter(map(_without_scores, other))
    total = mine.total() + theirs.total()
    return 1.0 if total == 0 else 2 * (mine & theirs).total() / total


def _without_scores(value: Any) -> Any:
    """A value without its scores."""
    if isinstance(value, dict):
        return tuple((key, _without_scores(item)) for key, item in value.items() if not isinstance(item, float))
    return tuple(map(_without_scores, value)) if isinstance(value, list) else value


def _is_ranking(items: list[Any]) -> bool:
    """Labels with scores, best first, as classify and zero_shot give them."""
    return bool(items) and all(isinstance(item, dict) and set(item) == {"label", "score"} for item in items)


def _labels(row: Any) -> list[Any]:
    return [row.get("label")] if isinstance(row, dict) else [None, None]


def _close(exact: pa.Array, rounded: pa.Array) -> float:
    want, got = exact.to_numpy(zero_copy_only=False), rounded.to_numpy(zero_copy_only=False)
    return float(np.mean(np.abs(want - got) <= max(CLOSE * want.std(), 1e-3)))


def _is_vector(type_: pa.DataType) -> bool:
    lists = pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_)
    return lists and pa.types.is_floating(type_.value_type)


def _cosines(exact: pa.Array, rounded: pa.Array) -> np.ndarray:
    one, other = (np.stack(column.to_numpy(zero_copy_only=False)).astype(np.float64) for column in (exact, rounded))
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return (one * other).sum(axis=1) / np.maximum(lengths, 1e-12)
