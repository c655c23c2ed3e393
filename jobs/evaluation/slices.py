"""The metric by slice: for each value of each declared column, on the rows that have it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.evaluation import rows, texts
from jobs.evaluation.metrics import PERPLEXITY, ROUGE, Measured, check_metric, measure
from transforms.errors import SpecError

# A column with more values than this names rows rather than groups of rows.
MOST_VALUES = 500

# Metrics that are means of the rows' correctness.
MEANS = ("accuracy", "exact_match", *ROUGE)


@dataclass(frozen=True)
class Slice:
    """The metric on the rows with one value of a column.

    Attributes:
        column: the slice column.
        value: its value as text; None for the rows without one.
        rows: number of rows.
        metric: the metric, or None where it cannot be computed.
        correctness: mean correctness of the rows.
        why: why there is no metric; empty if there is one.
    """

    column: str
    value: str | None
    rows: int
    metric: float | None
    correctness: float
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "column": self.column,
            "value": self.value,
            "rows": self.rows,
            "metric": self.metric,
            "correctness": self.correctness,
        } | ({"why": self.why} if self.why else {})


def members(table: pa.Table, columns: Sequence[str]) -> dict[tuple[str, str | None], np.ndarray]:
    """The rows of each slice: (column, value as text) -> their indices, in the order of columns and values.

    Raises:
        SpecError: a column is missing, has lists or structs, or has so many values that it does not group rows.
    """
    found: dict[tuple[str, str | None], np.ndarray] = {}
    for i, name in enumerate(columns):
        if name not in table.schema.names:
            raise SpecError(
                f"slices.{i} is {name!r}, which is not in the rows; columns: {', '.join(table.schema.names)}"
            )
        column = table.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_nested(column.type):
            raise SpecError(f"slices.{i} is {name!r}, which is {column.type}; name a column of texts, numbers or dates")
        count = len(pc.unique(column))
        if count > MOST_VALUES:
            raise SpecError(
                f"slices.{i} is {name!r}, which has {count} values in {len(table)} rows; "
                f"name a column with at most {MOST_VALUES}"
            )
        texts = np.array(column.cast(pa.string()).to_pylist(), dtype=object)
        values = sorted({text for text in texts if text is not None})
        for value in [*values, *([None] if None in texts else [])]:
            found[name, value] = np.flatnonzero(texts == value)
    return found


def means(table: pa.Table, columns: Sequence[str], measured: Measured) -> list[Slice]:
    """A metric that is the mean of the rows' correctness, for each value of each column.

    Args:
        table: rows with the slice columns.
        columns: the slice columns.
        measured: the result over all rows.

    Raises:
        SpecError: a column cannot be a slice.
    """
    found = []
    for (name, value), indices in members(table, columns).items():
        own = float(measured.correctness[indices].mean())
        found.append(Slice(name, value, len(indices), own, own))
    return found


def by_slice(
    task: str,
    table: pa.Table,
    predictions: pa.Array,
    columns: Sequence[str],
    metric: str | None = None,
    measured: Measured | None = None,
) -> list[Slice]:
    """The metric for each value of each column.

    Args:
        task: classify, ner, summarize, translate or generate.
        table: labelled rows with the slice columns.
        predictions: a value per row, as `predict` gives them.
        columns: the slice columns.
        metric: one of the task's metrics; the default one if left out.
        measured: the result over all rows, if it is known already; for perplexity it must be given.

    Raises:
        SpecError: a column cannot be a slice, or the metric is not one of the task's.
    """
    metric = check_metric(task, metric)
    groups = members(table, columns)
    if measured is None and groups:
        measured = measure(task, table, predictions, metric)
    slices = []
    for (name, value), indices in groups.items():
        assert measured is not None
        correctness = float(measured.correctness[indices].mean())
        try:
            own, why = _metric(task, table, predictions, metric, measured, indices), ""
        except SpecError as error:
            own, why = None, str(error)
        slices.append(Slice(name, value, len(indices), own, correctness, why))
    return slices


def _metric(
    task: str, table: pa.Table, predictions: pa.Array, metric: str, measured: Measured, indices: np.ndarray
) -> float:
    own = measured.correctness[indices]
    if metric in MEANS:
        return float(own.mean())
    if metric == PERPLEXITY:
        assert measured.tokens is not None
        return perplexity_of(own, measured.tokens[indices])
    chosen = pa.array(indices)
    if metric in ("chrf", "bleu"):
        return texts.of_corpus(rows.truth(task, table).take(chosen), predictions.take(chosen))[metric]
    return measure(task, table.take(chosen), predictions.take(chosen), metric).value


def perplexity_of(correctness: np.ndarray, tokens: np.ndarray) -> float:
    """The perplexity of some rows from the geometric means of their tokens' probabilities.

    Raises:
        SpecError: none of them has a token.
    """
    if not tokens.sum():
        raise SpecError("no row has a target, so perplexity cannot be computed")
    counts = tokens > 0
    return float(np.exp(-(np.log(correctness[counts]) * tokens[counts]).sum() / tokens.sum()))
