"""The rows that are drawn from a run, with their predictions, their drawing probabilities and their origin."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.models.hub import Pin
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.review import challenger, columns
from jobs.review import population as populations
from jobs.review.challenger import Differences, Waiting
from jobs.review.draw import UNIFORM_SHARE, draw
from jobs.review.population import Population
from jobs.sink.folder import FolderSink
from jobs.spec.review import ReviewSpec
from jobs.spec.task import DEFAULT
from transforms.errors import NightscribeError
from transforms.options import with_fields

LOG = logging.getLogger(__name__)


def draw_rows(plan: Plan, sink: FolderSink, task: TaskPlan, population: Population, review: ReviewSpec) -> pa.Table:
    """Draw rows of a run.

    While a challenger waits for evidence, rows on which it differs from the champion take the place of the uncertain
    ones; `by: random` draws neither.

    Args:
        plan: the run.
        sink: where its part files are.
        task: the task whose results are reviewed.
        population: its rows.
        review: how many rows are drawn, and which.

    Returns:
        The rows with all their columns and those of `columns.COLUMNS`.
    """
    waiting = challenger.waiting(task) if review.by != "random" else None
    uniform = UNIFORM_SHARE[review.by] * review.rows
    by, rows = (review.by, float(review.rows)) if waiting is None else ("random", uniform)
    drawn = draw(population.keys, population.scores, rows, by, plan.run_id)
    places = [np.flatnonzero(drawn.uniform), np.flatnonzero(drawn.uncertain)]
    differences = None
    if waiting is not None:
        try:
            differences = challenger.differences(
                plan, sink, task, waiting, population, drawn.uniform, review.rows - uniform, plan.run_id
            )
        except NightscribeError as error:
            # The night is done and good; only evidence about the challenger is missing.
            LOG.warning("no rows were drawn for challenger %s: %s", waiting.version, error)
            waiting = None
    places.append(differences.rows if differences is not None else np.zeros(0, int))
    chosen = np.concatenate(places)
    kinds = np.repeat([columns.UNIFORM, columns.UNCERTAIN, columns.DIFFERENCE], [len(each) for each in places])
    probability = drawn.probability[chosen]
    if differences is not None:
        probability[len(chosen) - len(differences.rows) :] = differences.probability
    table = populations.take(plan, sink, population, chosen)
    text = populations.texts(task, table)
    origin = _origin(plan, task, population, chosen) | {"review_adapter": _adapters(task, table)}
    values: dict[str, Any] = (
        origin
        | _difference(waiting, differences, len(chosen))
        | {
            columns.KEY: [population.keys[int(i)] for i in chosen],
            "review_text": text,
            "review_prediction": _in_words(table.column(task.spec.into)),
            "review_score": [None if np.isnan(score) else float(score) for score in population.scores[chosen]],
            columns.DRAWN: kinds.tolist(),
            "review_probability": probability,
            "review_position": chosen,
        }
    )
    for field in columns.COLUMNS:
        table = table.append_column(field, pa.array(values[field.name], field.type))
    return table


def _origin(plan: Plan, task: TaskPlan, population: Population, chosen: np.ndarray) -> dict[str, Any]:
    entries = [population.entries[int(place)] for place in population.parts[chosen]]
    same = {
        "review_task": task.spec.task,
        "review_into": task.spec.into,
        "review_at": datetime.now(UTC).isoformat(timespec="microseconds"),
        "review_job": plan.spec.name,
        "review_run": plan.run_id,
        "review_model": _named(task.model),
    }
    return {name: [value] * len(chosen) for name, value in same.items()} | {
        "review_file": [entry.key for entry in entries],
        "review_part": [entry.part for entry in entries],
        "review_row": population.rows[chosen],
    }


def _difference(waiting: Waiting | None, found: Differences | None, rows: int) -> dict[str, Any]:
    """The columns of which only rows that were drawn as differences have values; they are the last rows."""
    if waiting is None or found is None:
        waiting, found = None, Differences(np.zeros(0, int), pa.nulls(0), 1.0, 0)
    count = len(found.rows)
    values: dict[str, list[Any]] = {
        "review_champion": [waiting and waiting.champion] * count,
        "review_challenger": [waiting and waiting.version] * count,
        "review_challenger_prediction": _in_words(found.predictions),
        "review_differences": [count] * count,
        "review_others": [found.others] * count,
    }
    return {name: [None] * (rows - count) + mine for name, mine in values.items()}


def _adapters(task: TaskPlan, rows: pa.Table) -> list[str | None]:
    """NAME@COMMIT of the adapter that computed each row; None for the model without one."""
    if task.spec.adapter_column is None:
        return [_named(task.adapter)] * len(rows)
    table: Any = rows
    column = with_fields(table, [task.spec.adapter_column]).column(task.spec.adapter_column)
    default = task.adapters.get(DEFAULT)
    return [_named(task.adapters.get(name, default)) for name in column.cast(pa.string()).to_pylist()]


def _named(pin: Pin | None) -> str | None:
    return None if pin is None else f"{pin.name}@{pin.commit}"


def _in_words(predictions: pa.Array | pa.ChunkedArray) -> list[str]:
    """The best label, the text, or JSON of several labels and of entities."""
    values = predictions.to_pylist()
    labels = [value["label"] if isinstance(value, dict) and "label" in value else value for value in values]
    return [each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in labels]
