"""Training rows that are probably mislabelled, by confident learning.

A row with the given label i is one of them if another label j is more probable to a model that did not learn the row,
and at least as probable as j is, on average, in the rows that were given j. The averages make up for labels of which a
model is always more, or less, certain. Source: Northcutt, Jiang, Chuang 2021, "Confident learning: estimating
uncertainty in dataset labels", equations 1 and 2. The rows with the highest losses are listed first.

The probabilities are those of the validation rows, or of a cross-fit (jobs/training/held_out.py): with validation rows
only these are examined, a tenth of the training rows by default. A model that is right less often than a guess of the
most frequent label says nothing about labels, and then no row is listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

MOST = 20

# A mean of equal numbers may be larger than each of them by the last bits.
ROUNDING = 1e-9


@dataclass(frozen=True)
class Suspect:
    """A row that is probably mislabelled.

    Attributes:
        text: its text.
        given: its label, or its labels.
        expected: the label, or the labels, that the model expects.
        loss: of the given label, in nats.
    """

    text: str
    given: str
    expected: str
    loss: float


@dataclass(frozen=True)
class Mislabelled:
    """The rows that are probably mislabelled.

    Attributes:
        examined: rows whose labels the model did not learn.
        found: number of rows that are probably mislabelled.
        rows: those with the highest losses.
    """

    examined: int
    found: int
    rows: tuple[Suspect, ...]


def find(rows: pa.Table, labels: Sequence[str], most: int = MOST) -> Mislabelled:
    """Find rows that are probably mislabelled.

    Args:
        rows: text, label (string, or a list of strings), loss and probabilities, see `jobs.training.held_out`.
        labels: names of the outputs, in their order.
        most: number of rows to list.
    """
    probabilities = np.array(rows["probabilities"].to_pylist(), float).reshape(len(rows), len(labels))
    number = {label: i for i, label in enumerate(labels)}
    several = pa.types.is_list(rows.schema.field("label").type)
    given = np.zeros(probabilities.shape, bool)
    for row, value in enumerate(rows["label"].to_pylist()):
        given[row, [number[label] for label in (value if isinstance(value, list) else [value])]] = True
    expected = _each_label(probabilities, given) if several else _one_label(probabilities, given)
    wrong = (expected != given).any(axis=1)
    if not _is_better_than_a_guess(probabilities, given, several):
        wrong[:] = False
    loss = rows["loss"].to_numpy()
    order = sorted(np.flatnonzero(wrong), key=lambda row: -loss[row])

    def named(mask: np.ndarray) -> str:
        return ", ".join(labels[int(i)] for i in np.flatnonzero(mask)) or "(none)"

    listed = [
        Suspect(str(rows["text"][int(row)].as_py()), named(given[row]), named(expected[row]), float(loss[row]))
        for row in order[:most]
    ]
    return Mislabelled(len(rows), int(wrong.sum()), tuple(listed))


def _one_label(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The expected label of each row, as `given`: `(rows, labels)`, one in each row."""
    threshold = _means(probabilities, given) - ROUNDING
    own = (probabilities * given).sum(axis=1, keepdims=True)
    other = (probabilities >= threshold) & (probabilities > own) & ~given
    best = np.where(other, probabilities, -1.0).argmax(axis=1)
    expected = given.copy()
    changed = other.any(axis=1)
    expected[changed] = False
    expected[changed, best[changed]] = True
    return expected


def _each_label(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """The expected labels of each row, where a row has several: each label and its absence are two classes."""
    missing = (probabilities >= _means(probabilities, given) - ROUNDING) & (probabilities > 0.5) & ~given
    excess = (1 - probabilities >= _means(1 - probabilities, ~given) - ROUNDING) & (probabilities < 0.5) & given
    found: np.ndarray = (given | missing) & ~excess
    return found


def _means(probabilities: np.ndarray, given: np.ndarray) -> np.ndarray:
    """Mean probability of each label in the rows that were given it `(labels,)`; infinite for a label without rows."""
    counts = given.sum(axis=0)
    sums = (probabilities * given).sum(axis=0)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.inf)


def _is_better_than_a_guess(probabilities: np.ndarray, given: np.ndarray, several: bool) -> bool:
    """Whether the model agrees with the given labels more often than the most frequent label does."""
    if several:
        guess = given.mean(axis=0) > 0.5
        return bool(((probabilities > 0.5) == given).mean() > (guess == given).mean())
    right = given[np.arange(len(given)), probabilities.argmax(axis=1)].mean() if len(given) else 0.0
    return bool(right > given.mean(axis=0).max(initial=0.0))
