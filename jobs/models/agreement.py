"""Whether int8 is good enough for a job: compared with float32 on its own rows, before anything is enriched.

The first of these rows also give the ranges of the activations (`jobs.models.looks`). What is found is kept in the sink
and put in the plan, so that every worker and every later night computes with the same ranges.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from jobs.execute.sample import first_rows
from jobs.models import looks
from jobs.models.looks import Looks
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.store import Store, names
from transforms.errors import ModelError
from transforms.options import column_of

LOG = logging.getLogger(__name__)

Finite = Annotated[float, Field(allow_inf_nan=False)]


class Found(BaseModel):
    """What a comparison of int8 with float32 found for a task.

    Attributes:
        agreement: mean agreement of the rows, from 0 to 1.
        rows: how many were compared; None in sinks of earlier versions.
        ranges: ranges of the inputs of the linear layers; None to find them for each batch.
    """

    model_config = ConfigDict(frozen=True)

    agreement: Finite
    rows: int | None = None
    ranges: dict[str, tuple[Finite, Finite]] | None = None


# Earlier versions kept only the agreement, of ranges per batch.
_KEPT = TypeAdapter(dict[str, Found | Finite])
_FOUND = TypeAdapter(dict[str, Found])


def check(plan: Plan, models: ModelPool, store: Store) -> Plan:
    """The plan with the agreement and the ranges of each task in `dtype: int8`.

    They are measured once per fingerprint and kept in the sink, unless there were only a few rows: every later night
    computes as the first one did.

    Args:
        plan: the run.
        models: takes the int8 models that are loaded for this, so that the run need not load them again.
        store: the sink's.

    Raises:
        ModelError: one of them agrees with float32 on less than its `min_agreement`.
    """
    if not _rounded(plan):
        return plan
    kept = _file(plan)
    found = _kept(kept, store)
    if is_due(plan, store):
        before, found = found, measure(plan, models) | found
        # A night of a few rows says little of those that follow.
        lasting = {into: each for into, each in found.items() if into in before or (each.rows or 0) >= looks.LEAST_ROWS}
        if lasting != before:
            store.put(kept, _FOUND.dump_json(lasting))
    for i, task in enumerate(plan.tasks):
        if task.spec.into in found:
            _accept(task, i, found[task.spec.into])
    return _with(plan, found)


def known(plan: Plan, models: ModelPool, store: Store) -> Plan:
    """The plan as `check` gives it, but nothing is kept in the sink and nothing refused."""
    return _with(plan, measure(plan, models) if is_due(plan, store) else _kept(_file(plan), store))


def is_due(plan: Plan, store: Store) -> bool:
    """Whether a task in int8 has not been measured yet."""
    rounded = [task.spec.into for task in _rounded(plan)]
    return bool(rounded) and not set(rounded) <= _kept(_file(plan), store).keys()


def measure(plan: Plan, models: ModelPool) -> dict[str, Found]:
    """What is found for each task in int8, by its column; arguments as of `check`."""
    found: dict[str, Found] = {}
    sample = first_rows(plan, looks.MOST_ROWS)
    for task in _rounded(plan):
        # Of a task with a smaller model its own model alone. What that agrees with was measured with a range per batch.
        rows = _Sample(_with(plan, found), models, sample, task)
        compared = looks.compare(task.large, rows, may_fix=task.first is None)
        found[task.spec.into] = Found(
            agreement=round(compared.agreement, 4), rows=compared.rows, ranges=compared.ranges
        )
        models.keep(_applied(task.large, found[task.spec.into]), compared.annotator)
    return found


class _Sample(Looks):
    """The rows that a task is compared on, with the columns of the tasks that it reads.

    Args:
        plan: the run, with what was found for earlier tasks.
        models: loads the earlier tasks.
        rows: the first rows of the source.
        task: the task.
    """

    def __init__(self, plan: Plan, models: ModelPool, rows: pa.RecordBatch, task: TaskPlan):
        self.models, self.rows = models, rows
        self.before = [other for other in plan.tasks if _reads(task, other, plan)]

    def __len__(self) -> int:
        return len(self.rows)

    def between(self, start: int, stop: int) -> pa.RecordBatch:
        """Some of the rows; what they read is computed now."""
        batch = self.rows.slice(start, stop - start)
        for task in self.before:
            batch = batch.append_column(task.spec.into, self.models.annotator(task)(batch).values)
        return batch


def _rounded(plan: Plan) -> list[TaskPlan]:
    return [task for task in plan.tasks if task.dtype == "int8"] if plan.todo else []


def _file(plan: Plan) -> str:
    # Without the threshold of a smaller model, which is measured anew now and then.
    return f"{names.AGREEMENT}/{(plan.exact or plan.fingerprint).digest}.json"


def _kept(name: str, store: Store) -> dict[str, Found]:
    """What was found before; empty if there is nothing, or if its file is damaged."""
    try:
        kept = _KEPT.validate_json(store.get(name))
    except (FileNotFoundError, ValueError):
        return {}
    return {into: Found(agreement=found) if isinstance(found, float) else found for into, found in kept.items()}


def _with(plan: Plan, found: Mapping[str, Found]) -> Plan:
    return replace(plan, tasks=tuple(_applied(task, found.get(task.spec.into)) for task in plan.tasks))


def _applied(task: TaskPlan, found: Found | None) -> TaskPlan:
    if found is None:
        return replace(task, agreement=None, ranges=None)
    return replace(task, agreement=found.agreement, ranges=found.ranges)


def _accept(task: TaskPlan, i: int, found: Found) -> None:
    how = "a range per batch" if found.ranges is None else "fixed ranges"
    LOG.info("tasks.%d: int8 with %s agrees with float32 on %.4f of a sample", i, how, found.agreement)
    if found.agreement < task.spec.min_agreement:
        raise ModelError(
            f"tasks.{i}.dtype is int8, which agrees with float32 on {found.agreement:.4f} of a sample of the rows; "
            f"tasks.{i}.min_agreement is {task.spec.min_agreement:g}; use dtype: auto, or lower min_agreement"
        )


def _reads(task: TaskPlan, other: TaskPlan, plan: Plan) -> bool:
    """Whether a task reads the column of another one, directly or through others."""
    names = {each.spec.into for each in plan.tasks}
    read = {column_of(column, names) for column in task.spec.reads}
    return other.spec.into in read or any(
        each.spec.into in read and each.spec.into != task.spec.into and _reads(each, other, plan) for each in plan.tasks
    )
