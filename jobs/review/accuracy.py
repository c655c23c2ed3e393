"""How good a night was, from the rows that people labelled and the scores of all its rows; one small file a night."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.evaluation import entities, metrics, night
from jobs.evaluation.bootstrap import Interval
from jobs.evaluation.night import Night
from jobs.review import columns, parquet, question
from jobs.review.question import Question
from jobs.store import Store
from transforms.errors import SinkError

FOLDER = "_nightscribe/accuracy"

# Rows that were drawn because two versions differ say nothing about the night as a whole.
COUNTED = (columns.UNIFORM, columns.UNCERTAIN)


@dataclass(frozen=True)
class NightAccuracy:
    """How good a night was.

    Attributes:
        run: id of the run.
        at: when its rows were drawn, ISO 8601.
        measure: what was measured of each row, such as `right labels`.
        night: the estimate and its intervals.
    """

    run: str
    at: str
    measure: str
    night: Night


def estimate(store: Store, job: str, run: str) -> NightAccuracy:
    """Estimate the accuracy of a run from its labels so far, and keep it in the review folder.

    Args:
        store: the review folder.
        job: name of the job.
        run: id of the run.

    Raises:
        SpecError: no row that counts is labelled yet, or a truth cannot be compared with its prediction.
        SinkError: a file is missing or damaged, or cannot be written.
    """
    drawn = parquet.load(store, columns.draw_file(job, run))
    truth = parquet.load(store, columns.labels_file(job, run))
    scores = parquet.load(store, columns.scores_file(job, run), ["score"])["score"].to_numpy()
    asked = question.read(drawn)
    counted = _counted(drawn)
    place = {key: i for i, key in enumerate(drawn[columns.KEY].to_pylist())}
    truth = _counted(truth)
    rows = drawn.take(pa.array([place[key] for key in truth[columns.KEY].to_pylist()], pa.int64()))
    right = _correctness(asked, rows, truth[asked.truth]) if len(rows) else np.zeros(0)
    found = night.accuracy(
        scores,
        rows["review_position"].to_numpy(),
        right,
        rows["review_probability"].to_numpy(),
        drawn=len(counted),
    )
    result = NightAccuracy(run, drawn["review_at"][0].as_py(), _measure(asked), found)
    content = {"run": run, "at": result.at, "measure": result.measure, "night": found.to_json()}
    store.put(f"{FOLDER}/{job}/{run}.json", json.dumps(content, indent=1).encode())
    return result


def read(store: Store, job: str) -> list[NightAccuracy]:
    """The accuracy of every night of a job that has labels, oldest first.

    Raises:
        SinkError: the review folder cannot be read, or a file there is damaged.
    """
    found = []
    for name in store.names(f"{FOLDER}/{job}"):
        try:
            content = json.loads(store.get(name))
            found.append(NightAccuracy(content["run"], content["at"], content["measure"], _night(content["night"])))
        except (ValueError, KeyError, TypeError) as error:
            raise SinkError(
                f"{store.url}/{name} is damaged; delete it, and import the labels of the run again with "
                "`nightscribe labels`"
            ) from error
    return sorted(found, key=lambda each: each.at)


def _counted(rows: pa.Table) -> pa.Table:
    return rows.filter(pa.array([kind in COUNTED for kind in rows[columns.DRAWN].to_pylist()], pa.bool_()))


def _correctness(asked: Question, rows: pa.Table, truth: pa.ChunkedArray) -> np.ndarray:
    """How right the prediction of each row is, from 0 to 1."""
    predictions = rows[rows["review_into"][0].as_py()].combine_chunks()
    truth = truth.combine_chunks()
    if asked.task == "ner":
        return entities.correctness(rows["review_text"], truth, predictions)
    return metrics.measure(asked.task, pa.table({asked.truth: truth}), predictions).correctness


def _measure(asked: Question) -> str:
    match asked.task:
        case "classify":
            return "right labels"
        case "ner":
            return "F1 of a row's entities"
    return f"{metrics.METRICS[asked.task][0]} of a row"


def _night(content: Mapping[str, Any]) -> Night:
    numbers = {name: value for name, value in content.items() if name != "narrower"}
    intervals = {name: Interval(**numbers[name]) for name in ("estimate", "classical")}
    return Night(**(numbers | intervals))
