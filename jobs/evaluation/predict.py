"""Predictions of a version, or of its base, computed exactly as the nightly job computes them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pydantic

from jobs.evaluation.rows import readable
from jobs.models import hub, pool
from jobs.models.hub import Pin
from jobs.plan import planning, task_plans
from jobs.plan.task import TaskPlan
from jobs.spec import TaskSpec
from jobs.spec.complaint import sentence
from transforms import registry
from transforms.contract import Failure
from transforms.errors import SpecError
from transforms.options import column_of

INTO = "prediction"


@dataclass(frozen=True)
class Predictions:
    """What a task gives for some rows.

    Attributes:
        values: one value per row, of the type that the job's column has; null where the text is null or empty, and
            where the row failed.
        failures: the rows that made the task raise; `row` counts from the first row of the table.
        tokens: real tokens computed.
        padded_tokens: tokens computed, padding included.
        seconds: time of the computation, without the loading of the model.
        plan: the task with everything resolved, such as the dtype.
    """

    values: pa.Array
    failures: tuple[Failure, ...]
    tokens: int
    padded_tokens: int
    seconds: float
    plan: TaskPlan

    @property
    def failed(self) -> int:
        """Number of rows that failed."""
        return len(self.failures)

    @property
    def rows_per_s(self) -> float:
        """Rows per second, for a comparison of two versions on one machine."""
        return len(self.values) / max(self.seconds, 1e-9)


@dataclass(frozen=True)
class Prepared:
    """A task and rows that it can compute; nothing is loaded yet.

    Attributes:
        plan: the task with everything resolved, as in a job's plan.
        rows: the rows as the task reads them; a conversation is split into `prompt` and `completion`.
    """

    plan: TaskPlan
    rows: pa.Table

    def batches(self) -> list[pa.RecordBatch]:
        """The rows in chunks of the size that a job has on this device."""
        chunk_rows = planning.CHUNK_ROWS[self.plan.device.split(":")[0]]
        found: list[pa.RecordBatch] = self.rows.combine_chunks().to_batches(max_chunksize=chunk_rows)
        return found

    def first(self, rows: int) -> Prepared:
        """The same with the first rows only."""
        return replace(self, rows=self.rows.slice(0, rows))


def prepare(
    task: str,
    model: Pin | str | Path,
    adapter: Pin | str | Path | None,
    table: pa.Table,
    options: Mapping[str, Any] | None = None,
) -> Prepared:
    """Resolve a version as the plan of a job does.

    Args:
        task: classify, ner, summarize, translate or generate.
        model: the base model, or the folder of a model that was trained as a whole.
        adapter: the adapter over it, or None.
        table: rows with the canonical columns of the task: `text`, or `prompt`, or `messages`.
        options: the keys that a task has in a job file: its own options, and dtype, engine, device, max_tokens.

    Raises:
        UserError: an option is wrong, or the model or the adapter does not fit the task.
    """
    options = dict(options or {})
    found = readable(task, table, options)
    base, over = _pin(model, "base.model"), None if adapter is None else _pin(adapter, "adapter")
    keys = {"into": INTO} | dict(found.options) | options
    keys |= {"task": task, "model": base.name, "adapter": over and over.name}
    try:
        spec = TaskSpec.model_validate(keys)
        columns = spec.reads
    except pydantic.ValidationError as error:
        module = registry.get(task)
        valid = [*(field.name for field in dataclasses.fields(module.Options)), *TaskSpec.model_fields]
        raise SpecError(f"options of {task}: {sentence(error, valid)}") from error
    plan = TaskPlan(spec, base, over, spec.dtype, spec.engine)
    # As a job's plan does: another base, or a head that the task cannot use, is refused before any weights load.
    task_plans.configured(plan)
    names = found.table.schema.names
    if missing := [column for column in columns if column_of(column, names) not in names]:
        raise SpecError(f"column {missing[0]!r} is not in the rows; columns: {', '.join(names)}")
    return Prepared(task_plans.choose(plan, 0, is_here=True), found.table)


def predict(prepared: Prepared) -> Predictions:
    """Compute a task for every row, with the batching, dtype and adapter loading of a job.

    Raises:
        ModelError: the weights do not fit the task.
        RunError: the model does not fit into memory.
    """
    plan = prepared.plan
    annotator = pool.load(plan)
    values: list[pa.Array] = []
    failures: list[Failure] = []
    tokens = padded_tokens = done = 0
    start = time.perf_counter()
    for batch in prepared.batches():
        annotation = annotator(batch)
        values.append(annotation.values)
        failures += [replace(failure, row=failure.row + done) for failure in annotation.failures]
        tokens, padded_tokens = tokens + annotation.tokens, padded_tokens + annotation.padded_tokens
        done += len(batch)
    seconds = time.perf_counter() - start
    if not values:
        type_ = registry.get(plan.spec.task).output_type(plan.spec.options, task_plans.configured(plan))
        values = [pa.array([], type_)]
    return Predictions(pa.concat_arrays(values), tuple(failures), tokens, padded_tokens, seconds, plan)


def _pin(version: Pin | str | Path, key: str) -> Pin:
    return version if isinstance(version, Pin) else hub.pin(str(version), None, key)
