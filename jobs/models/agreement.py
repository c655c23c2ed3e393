"""Whether int8 is good enough for a job: compared with float32 on its own rows, before anything is enriched."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pyarrow as pa
from pydantic import TypeAdapter

from jobs.execute.sample import first_rows
from jobs.models import pool
from jobs.models.pool import ModelPool
from jobs.plan import Plan, TaskPlan
from jobs.store import Store, names
from transforms.agreement import agreement
from transforms.errors import ModelError

LOG = logging.getLogger(__name__)

# 64 rows are compared, 128 if the result is near the limit. 64 rows that all agree say as much as 126 of 128: with 95 %
# confidence the agreement is above 0.95; 128 rows tell 0.98 from 0.94.
FIRST_ROWS = 64
SAMPLE_ROWS = 128

_KEPT = TypeAdapter(dict[str, float])


def check(plan: Plan, models: ModelPool, store: Store) -> Plan:
    """The plan with the agreement of each task in `dtype: int8`.

    It is measured once per fingerprint and kept in the sink, because it can change only if the fingerprint changes.

    Args:
        plan: the run.
        models: takes the int8 models that are loaded for this, so that the run need not load them again.
        store: the sink's.

    Raises:
        ModelError: one of them agrees with float32 on less than its `min_agreement`.
    """
    if not plan.todo or all(task.dtype != "int8" for task in plan.tasks):
        return plan
    kept = _file(plan)
    found = measure(plan, models) if is_due(plan, store) else _kept(kept, store)
    for i, task in enumerate(plan.tasks):
        if task.spec.into in found:
            _accept(task, i, found[task.spec.into])
    store.put(kept, json.dumps(found).encode())
    return replace(plan, tasks=tuple(replace(t, agreement=found.get(t.spec.into)) for t in plan.tasks))


def is_due(plan: Plan, store: Store) -> bool:
    """Whether a task in int8 has not been measured yet."""
    rounded = [task.spec.into for task in plan.tasks if task.dtype == "int8"] if plan.todo else []
    return bool(rounded) and not set(rounded) <= _kept(_file(plan), store).keys()


def _file(plan: Plan) -> str:
    return f"{names.AGREEMENT}/{plan.fingerprint.digest}.json"


def _kept(name: str, store: Store) -> dict[str, float]:
    """The agreements measured before; empty if there are none, or if their file is damaged."""
    try:
        return _KEPT.validate_json(store.get(name))
    except (FileNotFoundError, ValueError):
        return {}


def measure(plan: Plan, models: ModelPool) -> dict[str, float]:
    """The agreement of each task in int8, by its column; arguments as of `check`."""
    sample = first_rows(plan, SAMPLE_ROWS)
    rounded = {task.spec.into: task for task in plan.tasks if task.dtype == "int8"}
    pairs: dict[str, list[tuple[pa.Array, pa.Array]]] = {into: [] for into in rounded}
    found: dict[str, float] = {}
    for batch in (sample.slice(0, FIRST_ROWS), sample.slice(FIRST_ROWS)):
        if found and (not len(batch) or all(_is_clear(found[into], task) for into, task in rounded.items())):
            break
        for task in plan.tasks:
            into = task.spec.into
            if into not in rounded and not _is_read(task, plan):
                continue
            # The float32 models are not kept, so that at most two models are in memory at a time.
            # Of a task with a smaller model its own model alone.
            exact = pool.load(replace(task.large, dtype="float32")) if into in rounded else None
            values = None if exact is None else exact(batch).values
            own = models.annotator(task if values is None else task.large)(batch).values
            if values is not None:
                pairs[into].append((values, own))
            batch = batch.append_column(into, own if values is None else values)
        found = {into: _agreed(both) for into, both in pairs.items()}
    return found


def _agreed(looks: list[tuple[pa.Array, pa.Array]]) -> float:
    exact, rounded = (pa.concat_arrays(columns) for columns in zip(*looks, strict=True))
    return round(agreement(exact, rounded), 4)


def _is_clear(agreed: float, task: TaskPlan) -> bool:
    """Whether an agreement is nearer to 1 than to the required minimum."""
    return agreed >= (1 + task.spec.min_agreement) / 2


def _accept(task: TaskPlan, i: int, agreed: float) -> None:
    LOG.info("tasks.%d: int8 agrees with float32 on %.4f of a sample", i, agreed)
    if agreed < task.spec.min_agreement:
        raise ModelError(
            f"tasks.{i}.dtype is int8, which agrees with float32 on {agreed:.4f} of a sample of the rows; "
            f"tasks.{i}.min_agreement is {task.spec.min_agreement:g}; use dtype: auto, or lower min_agreement"
        )


def _is_read(task: TaskPlan, plan: Plan) -> bool:
    """Whether a task in int8 reads this task's column, directly or through other tasks."""
    readers = [other for other in plan.tasks if task.spec.into in (column.split(".")[0] for column in other.spec.reads)]
    return any(reader.dtype == "int8" or _is_read(reader, plan) for reader in readers)
