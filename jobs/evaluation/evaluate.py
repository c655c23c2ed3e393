"""One version on the holdout, and two versions against each other on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation import bootstrap, metrics, perplexity, rows
from jobs.evaluation.bootstrap import Interval
from jobs.evaluation.diff import Diff, diff
from jobs.evaluation.labels import ClassWeights, best
from jobs.evaluation.metrics import PERPLEXITY, Measured, check_metric, measure
from jobs.evaluation.predict import Predictions, Prepared, predict, prepare
from jobs.evaluation.slices import Slice, by_slice, members
from jobs.models.hub import Pin
from transforms.errors import SpecError

NO_VALUE = "(none)"


@dataclass(frozen=True)
class Evaluation:
    """How good a version is on the holdout.

    Attributes:
        prepared: the version and the rows.
        predictions: what it gives for each row.
        measured: the metric, the other metrics, and how right each row is.
        slices: the metric for each value of each slice column.
        truth: what a prediction should be, `(rows,)`; None if the rows have it in the column of the task.
    """

    prepared: Prepared
    predictions: Predictions
    measured: Measured
    slices: Sequence[Slice]
    truth: pa.Array | None = None

    @property
    def metrics(self) -> dict[str, float]:
        """Every metric that is one number, the chosen one first."""
        others = {name: float(v) for name, v in self.measured.others.items() if isinstance(v, int | float)}
        return {self.measured.metric: self.measured.value} | others

    @property
    def metrics_by_slice(self) -> dict[str, dict[str, float]]:
        """Slice, such as `lang=de` -> the metric and the number of rows; without slices that have no metric."""
        metric = self.measured.metric
        known = ((one, one.metric) for one in self.slices)
        return {name_of(o.column, o.value): {metric: m, "rows": float(o.rows)} for o, m in known if m is not None}


@dataclass(frozen=True)
class Comparison:
    """Two versions on the same rows.

    Attributes:
        differences: correctness of the second minus that of the first, in [-1, 1], `(rows,)`; with class weights each
            is multiplied by the weight of the row's label.
        slices: slice, such as `lang=de` -> the differences of its rows.
        gain: difference of the metric; for macro F1 with its bootstrap interval, for a mean of rows with the bootstrap
            interval of the mean, for other metrics without one (low and high are NaN).
        changed: the table of what changes.
    """

    differences: np.ndarray
    slices: Mapping[str, np.ndarray]
    gain: Interval
    changed: Diff


def evaluate(
    task: str,
    model: Pin | str | Path,
    adapter: Pin | str | Path | None,
    table: pa.Table,
    metric: str | None = None,
    slices: Sequence[str] = (),
    options: Mapping[str, Any] | None = None,
    labels: Sequence[str] | None = None,
) -> Evaluation:
    """Compute a version's predictions as a job would, and measure them.

    Args:
        task: classify, ner, summarize, translate or generate.
        model: the base model, or the folder of a model that was trained as a whole.
        adapter: the adapter over it, or None.
        table: labelled rows with the canonical columns of the task and the slice columns.
        metric: one of the task's metrics; the default one if left out.
        slices: the slice columns.
        options: the keys that a task has in a job file.
        labels: labels that the version knows, for notes about those without rows.

    Raises:
        UserError: a metric, a column, an option, or the model or adapter is wrong; found before weights are loaded
            where that is possible.
        RunError: the model does not fit into memory.
    """
    metric = check_metric(task, metric)
    if not len(table):
        raise SpecError(f"the holdout has no rows, so {metric} cannot be computed; add labelled rows to data.holdout")
    rows.truth(task, table)
    members(table, slices)
    prepared = prepare(task, model, adapter, table, options)
    predictions = predict(prepared)
    if metric == PERPLEXITY:
        measured = perplexity.measure(prepared)
    else:
        measured = measure(task, table, predictions.values, metric, labels)
    by_value = by_slice(task, table, predictions.values, slices, metric, measured)
    return Evaluation(prepared, predictions, measured, by_value)


def compare(
    task: str,
    table: pa.Table,
    before: Evaluation,
    after: Evaluation,
    slices: Sequence[str] = (),
    weights: ClassWeights | None = None,
    confidence: float = 0.95,
    examples: int = 20,
) -> Comparison:
    """Compare two versions that were evaluated on the same rows with the same metric.

    Args:
        task: the task of both.
        table: the rows.
        before: the champion.
        after: the challenger.
        slices: the slice columns.
        weights: weights of the labels, for a gate that stands for macro F1; classify with one label per row only.
        confidence: of the interval of the gain.
        examples: number of changed rows to show.

    Raises:
        SpecError: the two were measured on other rows or with other metrics.
    """
    metric = before.measured.metric
    if metric != after.measured.metric or not before.measured.rows == after.measured.rows == len(table):
        raise SpecError(
            f"the versions were measured by {metric} on {before.measured.rows} rows and by {after.measured.metric} on "
            f"{after.measured.rows} rows, and there are {len(table)} rows; measure both on the same rows"
        )
    differences = metrics.differences(before.measured, after.measured)
    truth = after.truth
    if truth is None and before.measured.scores is None:
        truth = rows.truth(task, table)
    if weights is not None and truth is not None:
        differences = weights.weighted(truth.to_pylist(), differences)
    return Comparison(
        differences,
        {name_of(*key): differences[indices] for key, indices in members(table, slices).items()},
        _gain(truth, before, after, confidence),
        diff(table, before.predictions.values, after.predictions.values, examples, truth=truth),
    )


def name_of(column: str, value: str | None) -> str:
    """The name of a slice, such as `lang=de`."""
    return f"{column}={NO_VALUE if value is None else value}"


def _gain(truth: pa.Array | None, before: Evaluation, after: Evaluation, confidence: float) -> Interval:
    metric, gain = before.measured.metric, after.measured.value - before.measured.value
    if truth is None:
        return bootstrap.mean(metrics.differences(before.measured, after.measured), confidence)
    if metric == "macro_f1" and not pa.types.is_nested(truth.type):
        one, other = (best(each.predictions.values) for each in (before, after))
        return bootstrap.macro_f1_gain(truth.to_pylist(), one, other, confidence)
    differences = after.measured.correctness - before.measured.correctness
    if np.isclose(differences.mean(), gain, atol=1e-9):
        return bootstrap.mean(differences, confidence)
    return Interval(gain, float("nan"), float("nan"), confidence)
