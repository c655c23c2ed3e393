"""Make a plan from a job file: list the source, pin the models, check that all fit, find what is done."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial

import pyarrow as pa

from jobs import source
from jobs.cascade import kept
from jobs.models import fit
from jobs.plan import Plan, again, fingerprint, task_plans, todo
from jobs.plan.fingerprint import Fingerprint
from jobs.plan.task import TaskPlan
from jobs.reuse import donors
from jobs.review import place
from jobs.sink import Sink, open_sink, owner, repository, table_columns
from jobs.sink.folder import FolderSink
from jobs.sink.part import check_columns
from jobs.source import Source, files
from jobs.source.layouts import Layouts
from jobs.spec import JobSpec
from transforms.errors import SpecError
from transforms.options import column_kinds

# The time in a run id.
RUN_TIME = "%Y%m%dT%H%M%S%f"

# Rows per chunk, which are sorted by length together, by the slowest device: few on a CPU, to show progress and stop
# within seconds; many on a GPU, to keep it busy, and for tasks without a model.
CHUNK_ROWS = {"cpu": 1024, "cuda": 16_384, "mps": 8192}


def make(spec: JobSpec, only_rejected: bool = False) -> Plan:
    """Make a plan from a job file: list the source, pin the models, check that all fit, find what is done.

    Loads no weights and writes nothing.

    Args:
        spec: the job.
        only_rejected: only try rejected rows again.

    Raises:
        UserError: the job file does not fit the source, the models or the sink.
        SourceError: a source file cannot be read.
    """
    return against_sink(spec, only_rejected)[0]


def against_sink(spec: JobSpec, only_rejected: bool = False) -> tuple[Plan, FolderSink]:
    """A plan as `make` makes it, and the sink whose ledger it was compared with."""
    sink = open_sink(spec.sink)
    try:
        owned = owner.check(spec, sink.store)
    except SpecError:
        # Otherwise a mistyped path would be refused as the source of another job.
        if spec.source.path:
            files.find(spec.source.path, spec.source.format)
        raise
    seen = None
    if sink.mirror is not None:
        changes, seen = repository.check(spec, sink.mirror, sink.published)
        sink = FolderSink(sink.store, sink.mirror, changes)
        owned = owned or seen.owner
    kinds_read = [pair for item in spec.tasks for pair in column_kinds(item.options)]
    texts = {column for column, kind in kinds_read if kind == "text"}
    # A file without types would give 7 for the customer 007.
    texts |= {item.adapter_column for item in spec.tasks if item.adapter_column is not None}
    pinned = owned.pinned if owned is not None else {}
    known_layouts = Layouts(sink.store)
    planned_source, shards = source.plan(spec.source, spec.sink.path, texts, pinned, known_layouts)
    place.check(spec)
    if sink.table is not None and spec.sink.partition_by is None:
        # A table that exists is partitioned already; a new one is partitioned as the source is.
        columns = planned_source.divided_by if sink.table.seen is None else sink.table.seen.partition_columns
        spec = spec.model_copy(update={"sink": spec.sink.model_copy(update={"partition_by": list(columns)})})
        sink = open_sink(spec.sink, sink.store)
    known = owned.outputs if owned is not None else {}
    measured = partial(kept.find, sink.store)
    planned_tasks, schema = task_plans.resolve(spec, planned_source.schema, known, measured)
    if sink.table is not None:
        schema = table_columns.check(sink.table, schema)
    elif spec.sink.dataset is None:
        # The value of a partition column stays in the name of the folder. Readers of a dataset do not look there.
        schema = pa.schema([field for field in schema if field.name not in planned_source.partition_columns])
    check_columns(schema)
    if seen is not None and sink.mirror is not None:
        # Imported here because it imports `datasets`, which takes a second.
        from jobs.sink import card

        card.check_columns(schema)
        card.check(seen.card, schema, sink.mirror)
    plan = Plan(
        run_id=new_run_id(),
        spec=spec,
        source=planned_source,
        tasks=tuple(planned_tasks),
        schema=schema,
        fingerprint=_fingerprint(planned_source, planned_tasks, schema),
        exact=_exact(planned_source, planned_tasks, schema),
        prepare_version=planned_source.prepare_version,
        shards=tuple(shards),
        todo={},
        chunk_rows=max(CHUNK_ROWS.values()),
        layouts=known_layouts,
        attempts={} if only_rejected else None,
    )
    plan = refresh(plan, sink)
    fit.check(plan)
    return plan, sink


def refresh(plan: Plan, sink: Sink) -> Plan:
    """Compare a plan with the current ledger, and choose devices and dtypes if shards are to do.

    Raises:
        SpecError: the run would leave fewer rows of a source file than are published, or this machine lacks a device.
        ModelError: an engine is not installed, or cannot compute the dtype.
    """
    entries = sink.entries(plan)
    if not plan.lease:
        # Runs are in the order of their ids, also after a clock was set back: the report of a run counts what is newer
        # than the run before.
        plan = replace(plan, run_id=after(plan.run_id, max((e.run_id for e in entries.values()), default="")))
    if plan.attempts is None:
        plan = todo.subtract(plan, entries)
        plan = todo.with_lost(plan, sink.lost)
        plan = todo.with_moved(plan, sink.moved(plan))
    else:
        plan = again.select(plan, sink.published_entries(), entries)
        plan = again.without(plan, sink.moved(plan))
    found = donors.find(plan, sink.donor_entries(), sink.moved_files()) if plan.todo else ()
    plan = replace(plan, donors=found)
    if plan.todo:
        plan = _chosen(plan, plan.spec.runner.is_here)
    keys = {shard.key for shard in plan.shards}
    removals: Counter[str] = Counter()
    for entry in sink.superseded(plan):
        if entry.key not in keys:
            removals[entry.key] += entry.rows_out
    return replace(plan, removals=dict(removals))


def on_this_machine(plan: Plan) -> Plan:
    """The plan of a worker: if this machine has another kind of device, what the job leaves open is chosen again.

    A worker with a GPU uses it, though the run was planned on a machine without one. On the same kind of device all
    workers compute alike.

    Raises:
        SpecError: this machine lacks a device that the job asks for.
        ModelError: an engine is not installed here, or cannot compute the dtype.
    """
    if all(task.model is None for task in plan.tasks):
        # There is no choice, and importing torch would take seconds and half a GiB of each worker.
        return plan
    from transforms.device import choose_device

    def again(task: TaskPlan) -> TaskPlan:
        is_same = task.model is None or str(choose_device(task.spec.device)).split(":")[0] == task.device.split(":")[0]
        return task if is_same else replace(task, device="auto")

    return _chosen(replace(plan, tasks=tuple(map(again, plan.tasks))), is_here=True)


def _chosen(plan: Plan, is_here: bool) -> Plan:
    """The plan with devices, engines, dtypes, and the rows of a chunk that they are fast with."""
    tasks = tuple(task_plans.choose(task, i, is_here) for i, task in enumerate(plan.tasks))
    rows = [CHUNK_ROWS[task.device.split(":")[0]] for task in tasks if task.model is not None]
    return replace(plan, tasks=tasks, chunk_rows=min(rows, default=max(CHUNK_ROWS.values())))


def new_run_id() -> str:
    """The name of a run."""
    # With microseconds, because several short runs can start within a second and must sort in order.
    return f"{datetime.now(UTC):{RUN_TIME}}-{secrets.token_hex(3)}"


def after(run_id: str, newest: str) -> str:
    """A run id that is later than another one: itself, or one a microsecond after that one.

    Args:
        run_id: of a new run.
        newest: the id of an earlier run; later than `run_id` if the clock was wrong then, or is now.
    """
    if run_id >= newest:
        return run_id
    try:
        time = datetime.strptime(newest.partition("-")[0], RUN_TIME)
    except ValueError:
        # Not an id of this version.
        return run_id
    return f"{time + timedelta(microseconds=1):{RUN_TIME}}-{run_id.rpartition('-')[2]}"


def with_tasks(plan: Plan, tasks: Sequence[TaskPlan]) -> Plan:
    """The plan with tasks that are the same but for what was measured, and their fingerprint; not refreshed."""
    schema = plan.schema
    return replace(
        plan,
        tasks=tuple(tasks),
        fingerprint=_fingerprint(plan.source, tasks, schema),
        exact=_exact(plan.source, tasks, schema),
    )


def _exact(planned: Source, planned_tasks: Sequence[TaskPlan], schema: pa.Schema) -> Fingerprint | None:
    if not any(task.is_cascade for task in planned_tasks):
        return None
    return _fingerprint(planned, [task.large for task in planned_tasks], schema)


def _fingerprint(planned: Source, planned_tasks: Sequence[TaskPlan], schema: pa.Schema) -> Fingerprint:
    return Fingerprint(
        columns=fingerprint.of_schema(schema),
        rows=fingerprint.digest(planned.identity),
        tasks=task_plans.hashes(planned_tasks, planned.schema),
    )
