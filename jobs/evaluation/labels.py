"""Accuracy and F1 of labels by scikit-learn, and class weights, with which rare labels count like frequent ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from jobs.evaluation.metrics import Measured
from transforms.errors import SpecError

if TYPE_CHECKING:
    from collections.abc import Iterable

# A label of a multi-label model is given from this score on, as in transformers' examples.
GIVEN = 0.5

# Labels that a note names.
SHOWN = 10

# Stands for "no prediction" among the predicted labels; no label can be this text.
NONE = "\0"


def measure(truth: pa.Array, predictions: pa.Array, metric: str, labels: Sequence[str] | None) -> Measured:
    """Accuracy or macro F1; see `metrics.measure`.

    Macro F1 is the mean over the labels that the truth has. A predicted label that the truth lacks is a mistake of the
    row, and no class of its own; a label of the model without rows is named in a note.

    Args:
        truth: strings, or lists of strings where a row has several labels.
        predictions: what `classify` gives: struct<label, score>, or a list of them.
        metric: macro_f1 or accuracy.
        labels: labels that the model knows.

    Raises:
        SpecError: the predictions are numbers (regression), or there is no label at all.
    """
    if pa.types.is_nested(truth.type):
        return _several(truth, predictions, metric, labels)
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    true = truth.to_pylist()
    guessed = [NONE if label is None else label for label in best(predictions)]
    classes = sorted(set(true))
    precision, recall, f1, support = precision_recall_fscore_support(true, guessed, labels=classes, zero_division=0.0)
    values = {"macro_f1": float(np.mean(f1)), "accuracy": float(accuracy_score(true, guessed))}
    correctness = (np.array(true, object) == np.array(guessed, object)).astype(np.float64)
    value = values.pop(metric)
    others = {**values, "classes": _classes(classes, precision, recall, f1, support)}
    return Measured(metric, value, others, correctness, len(true), guessed.count(NONE), _notes(classes, labels, metric))


def best(predictions: pa.Array) -> list[str | None]:
    """The best label of each row; None for a row without a prediction.

    Args:
        predictions: what `classify` gives: struct<label, score>, or a list of them, best first; or labels alone.
    """
    if pa.types.is_list(predictions.type) or pa.types.is_large_list(predictions.type):
        return [row[0]["label"] if row else None for row in predictions.to_pylist()]
    if pa.types.is_struct(predictions.type):
        predictions = pa.compute.struct_field(predictions, "label")
    return predictions.cast(pa.string()).to_pylist()


def _several(truth: pa.Array, predictions: pa.Array, metric: str, labels: Sequence[str] | None) -> Measured:
    """Rows with several labels: a row is right if it has exactly the true ones."""
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support
    from sklearn.preprocessing import MultiLabelBinarizer

    true = [set(row) for row in truth.to_pylist()]
    if not pa.types.is_list(predictions.type):
        raise SpecError(
            "the rows have lists of labels, and the model gives one label; train it with problem_type: "
            "multi_label_classification, or give each row one label"
        )
    rows = predictions.to_pylist()
    guessed = [{entry["label"] for entry in row or () if entry["score"] >= GIVEN} for row in rows]
    classes = sorted(set().union(*true))
    if not classes:
        raise SpecError(f"no row of the holdout has a label, so {metric} cannot be computed; add rows with labels")
    binarizer = MultiLabelBinarizer(classes=sorted(set(classes).union(*guessed)))
    one, other = binarizer.fit_transform(true), binarizer.transform(guessed)
    columns = [list(binarizer.classes_).index(label) for label in classes]
    precision, recall, f1, support = precision_recall_fscore_support(one, other, labels=columns, zero_division=0.0)
    values = {"macro_f1": float(np.mean(f1)), "accuracy": float(accuracy_score(one, other))}
    correctness = np.array([a == b and row is not None for a, b, row in zip(true, guessed, rows, strict=True)], float)
    value = values.pop(metric)
    others = {**values, "classes": _classes(classes, precision, recall, f1, support)}
    return Measured(
        metric, value, others, correctness, len(true), predictions.null_count, _notes(classes, labels, metric)
    )


def _classes(classes: Iterable[str], *columns: Any) -> dict[str, dict[str, Any]]:
    rows = zip(classes, *columns, strict=True)
    return {
        label: {"precision": float(precision), "recall": float(recall), "f1": float(f1), "rows": int(support)}
        for label, precision, recall, f1, support in rows
    }


def _notes(classes: Sequence[str], labels: Sequence[str] | None, metric: str) -> list[str]:
    empty = [label for label in labels or () if label not in classes]
    if not empty:
        return []
    left_out = "; macro_f1 is the mean over the other labels" if metric == "macro_f1" else ""
    shown = ", ".join(map(repr, empty[:SHOWN])) + (f" and {len(empty) - SHOWN} more" if len(empty) > SHOWN else "")
    return [f"the holdout has no row of {shown}{left_out}; label more rows of them"]


@dataclass(frozen=True)
class ClassWeights:
    """A weight in (0, 1] for each label, fixed before any prediction is seen.

    Attributes:
        weights: label -> weight; the rarest label has 1.
        unseen: weight of a label that was not counted.
    """

    weights: Mapping[str, float]
    unseen: float

    def of(self, labels: Sequence[str]) -> np.ndarray:
        """The weight of each row by its true label."""
        return np.array([self.weights.get(label, self.unseen) for label in labels])

    def weighted(self, labels: Sequence[str], correctness: np.ndarray) -> np.ndarray:
        """Weight times correctness of each row, in [0, 1].

        The difference of two versions on a row is therefore in [-1, 1], as a betting e-process needs it.
        """
        return self.of(labels) * correctness

    def mean(self, labels: Sequence[str], correctness: np.ndarray) -> float:
        """The weighted mean of the correctness: with `limit` infinite the balanced accuracy."""
        weights = self.of(labels)
        return float((weights * correctness).sum() / weights.sum())

    def to_json(self) -> dict[str, Any]:
        """Plain JSON, for a receipt."""
        return {"weights": dict(self.weights), "unseen": self.unseen}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ClassWeights:
        """The inverse of `to_json`."""
        return cls(dict(data["weights"]), float(data["unseen"]))


def class_weights(counts: Mapping[str, int], limit: float = 20.0) -> ClassWeights:
    """Weights inverse to the number of rows of each label, for a mean that stands for macro F1.

    Macro F1 is no mean over rows, so it cannot be tested row by row; the weighted mean can. With true inverse
    frequencies a label with a single row would decide alone, so that a real gain would need thousands of labels to
    show; `limit` bounds the ratio of the largest to the smallest weight.

    Args:
        counts: rows by label, of the frozen holdout.
        limit: largest ratio of two weights, at least 1.

    Raises:
        SpecError: there are no counts, or a label has none.
    """
    if not counts or min(counts.values()) < 1:
        empty = [label for label, count in counts.items() if count < 1]
        what = f"label {empty[0]!r} has no rows" if empty else "there are no labels"
        raise SpecError(f"{what}, so class weights cannot be computed; add rows to data.holdout")
    least = max(counts.values()) / limit
    floored = {label: max(count, least) for label, count in counts.items()}
    smallest = min(floored.values())
    return ClassWeights({label: smallest / count for label, count in sorted(floored.items())}, unseen=1.0)
