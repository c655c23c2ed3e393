"""Whether rounding to eight bits is good enough for a job: measured on its own rows, before anything is enriched."""

from __future__ import annotations

import json
import logging
from dataclasses import replace

import pyarrow as pa

from jobs import enrich
from jobs.plan import Plan, TaskPlan
from jobs.store import Store
from transforms import task as tasks
from transforms.agreement import agreement
from transforms.errors import ModelError

LOG = logging.getLogger(__name__)

FOLDER = "_nightscribe/agreement"

# Enough to tell 0.98 from 0.94; a second or two of BERT-base on two cores.
SAMPLE_ROWS = 128


def check(plan: Plan) -> Plan:
    """The plan with the agreement of each task in `dtype: int8`.

    It is measured once a fingerprint and kept in the sink: nothing that could change it changes without that.

    Raises:
        ModelError: one of them agrees with float32 on less than its `min_agreement`.
    """
    if not plan.todo or all(task.dtype != "int8" for task in plan.tasks):
        return plan
    store, kept = Store(plan.spec.sink.path), f"{FOLDER}/{plan.fingerprint}.json"
    found: dict[str, float] = json.loads(store.get(kept)) if store.exists(kept) else _measured(plan)
    for i, task in enumerate(plan.tasks):
        if task.spec.into in found:
            _accept(task, i, found[task.spec.into])
    store.put(kept, json.dumps(found).encode())
    return replace(plan, tasks=tuple(replace(t, agreement=found.get(t.spec.into)) for t in plan.tasks))


def _measured(plan: Plan) -> dict[str, float]:
    """The agreement of each task in int8, by its column."""
    batch = _sample(plan)
    found = {}
    for task in plan.tasks:
        if task.dtype == "int8":
            exact = enrich.load(replace(task, dtype="float32"))(batch).values
            found[task.spec.into] = round(agreement(exact, enrich.load(task)(batch).values), 4)
            batch = batch.append_column(task.spec.into, exact)
        elif _is_read(task, plan):
            batch = batch.append_column(task.spec.into, enrich.load(task)(batch).values)
    return found


def _accept(task: TaskPlan, i: int, agreed: float) -> None:
    LOG.info("tasks.%d: int8 agrees with float32 on %.4f of a sample", i, agreed)
    if agreed < task.spec.min_agreement:
        raise ModelError(
            f"tasks.{i}.dtype is int8, which agrees with float32 on {agreed:.4f} of the first {SAMPLE_ROWS} rows; "
            f"tasks.{i}.min_agreement is {task.spec.min_agreement:g}; use dtype: auto, or ask for less agreement"
        )


def _is_read(task: TaskPlan, plan: Plan) -> bool:
    """Whether a task in int8 reads this task's column, by way of others too."""
    readers = [
        other
        for other in plan.tasks
        if task.spec.into in (column.split(".")[0] for column in tasks.columns_read(other.spec.options))
    ]
    return any(reader.dtype == "int8" or _is_read(reader, plan) for reader in readers)


def _sample(plan: Plan) -> pa.RecordBatch:
    """The first rows that are to do."""
    batches: list[pa.RecordBatch] = []
    for shard in plan.shards_todo:
        for chunk in enrich.read(plan, shard):
            batches.append(chunk.batch)
            if sum(map(len, batches)) >= SAMPLE_ROWS:
                break
        if sum(map(len, batches)) >= SAMPLE_ROWS:
            break
    table = pa.Table.from_batches(batches, plan.source.schema).slice(0, SAMPLE_ROWS).combine_chunks()
    return table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], plan.source.schema)
