"""What a classifier says of training rows whose labels it did not learn; from this mislabelled rows are found.

With validation rows these are the rows: the weights that are kept never learnt from them. Without, two further adapters
are trained on one half of the rows each and asked about the other half (cross-fitting), with the same base, method and
arguments as the training itself, on at most `CROSS_FIT_ROWS` rows, so that its cost is bounded.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from jobs.training import classify, identity, loop, processes
from jobs.training.methods import with_adapter
from jobs.training.request import Request
from jobs.training.setup import Setup

CROSS_FIT_ROWS = 2000

# Arguments of the training that have no meaning without validation rows and checkpoints.
PERIODIC = (
    "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "save_steps", "save_strategy", "save_total_limit",
    "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
)  # fmt: skip


def of_validation(trainer: Any, validation: pa.Table) -> pa.Table:
    """The validation rows with their loss and probabilities.

    Args:
        trainer: after the training.
        validation: rows with `key`, `text` and `label`.

    Returns:
        key, text, label; loss (float64, nats; the mean over labels where a row has several); probabilities, a list of
        float64 with one for each output.
    """
    return _table(trainer, validation, trainer.eval_dataset)


def cross_fitted(
    request: Request, rows: pa.Table, build: Callable[[Request, pa.Table], Setup], folder: Path
) -> pa.Table | None:
    """The training rows with the loss and probabilities of an adapter that was trained on the other half of them.

    Args:
        request: the training.
        rows: the training rows.
        build: request, rows -> the network and its examples.
        folder: for the files of the trainings; removed at the end.

    Returns:
        As `of_validation`, for rows whose labels the other half has; None if there are none.

    Raises:
        RunError: a loss was not a number.
    """
    from datasets import Dataset
    from transformers import set_seed

    every = max(1, len(rows))
    drawn = sorted(range(len(rows)), key=lambda row: identity.position(rows["key"][row].as_py(), "cross-fit"))
    rows = rows.take(pa.array(drawn[:CROSS_FIT_ROWS], pa.int64()))
    halves = rows.slice(0, len(rows) // 2), rows.slice(len(rows) // 2)
    found = []
    for number, (asked, learnt) in enumerate((halves, halves[::-1])):
        known = {label for value in learnt["label"].to_pylist() for label in _several(value)}
        asked = asked.filter(pa.array([known.issuperset(_several(value)) for value in asked["label"].to_pylist()]))
        if not len(asked):
            continue
        place = folder / f"cross-fit-{number}"
        place.mkdir(exist_ok=True)
        set_seed(request.arguments.get("seed", 42))
        setup = build(request, learnt)
        short = _short(request, len(learnt) / every)
        trainer = loop.trainer(short, setup, with_adapter(short, setup), place, setup.encode(learnt), [])
        trainer.train()
        found.append(_table(trainer, asked, Dataset.from_list(setup.encode(asked))))
        loop.wait()
        if processes.rank() == 0:
            shutil.rmtree(place)
    return pa.concat_tables(found) if found else None


def _short(request: Request, share: float) -> Request:
    """The request for a share of the rows: without checkpoints, with as many passes over them."""
    arguments = {key: value for key, value in request.arguments.items() if key not in PERIODIC}
    if (steps := arguments.get("max_steps", -1)) > 0:
        arguments["max_steps"] = max(1, round(steps * share))
    return replace(request, arguments=arguments | {"save_strategy": "no"})


def _table(trainer: Any, rows: pa.Table, examples: Any) -> pa.Table:
    said = trainer.predict(examples)
    table = rows.select(["key", "text", "label"])
    table = table.append_column("loss", pa.array(classify.losses(said.predictions, said.label_ids), pa.float64()))
    probabilities = classify.probabilities(said.predictions, several=said.label_ids.ndim == 2)
    return table.append_column("probabilities", pa.array(list(probabilities), pa.list_(pa.float64())))


def _several(label: Any) -> list[str]:
    return label if isinstance(label, list) else [label]
