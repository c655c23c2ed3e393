"""What a result decides, and whether two models decide alike: scores may differ, labels and places of entities not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

# A label that is scored independently of the others is given or not.
GIVEN = 0.5

Decision = Callable[[Any], Any]


def same(one: pa.Array, other: pa.Array, decision: Decision) -> NDArray[np.bool_]:
    """Whether each row has the same decision in two columns, `(rows,)`; two nulls are alike.

    Args:
        one: a task's column.
        other: the same column, computed by another model.
        decision: what counts of a value.
    """
    pairs = zip(one.to_pylist(), other.to_pylist(), strict=True)
    return np.array([_decided(mine, decision) == _decided(theirs, decision) for mine, theirs in pairs], bool)


def best_label(value: Any) -> Any:
    """The label with the highest score of a value of `classify` or `zero_shot`."""
    if isinstance(value, list):
        return value[0]["label"] if value else None
    return value["label"]


def given_labels(value: Any) -> Any:
    """The labels with a score of at least one half, of labels that are scored independently."""
    items = value if isinstance(value, list) else [value]
    return frozenset(item["label"] for item in items if item["score"] >= GIVEN)


def entities(value: Any) -> Any:
    """The labels and places of all entities of a text."""
    return [(item["label"], item["start"], item["end"]) for item in value]


def sureness(scores: NDArray[Any], independent: bool) -> NDArray[Any]:
    """How sure a model is of its decision on each row, `(rows,)`, from scores `(rows, labels)`.

    It is the score of the best label; where labels are scored independently, that of the least certain one: given or
    not given.
    """
    if not independent:
        return np.asarray(scores.max(axis=1))
    return np.asarray(np.maximum(scores, 1.0 - scores).min(axis=1))


def _decided(value: Any, decision: Decision) -> Any:
    return None if value is None else decision(value)
