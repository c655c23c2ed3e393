"""A job file becomes a plan: look at the source, pin the models, check that all fits, subtract what the ledger has."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime

import pyarrow as pa
import torch

from jobs import source
from jobs.models import hub
from jobs.plan import Plan, TaskPlan
from jobs.sink.ledger import Entry, Ledger
from jobs.source import Shard, Source
from jobs.source.rows import prepare_version
from jobs.spec import JobSpec, TaskSpec
from jobs.store import Store
from transforms import adapter as adapters
from transforms import engines
from transforms import task as tasks
from transforms.device import choose_device, choose_dtype
from transforms.errors import ModelError, NightscribeError, SpecError
from transforms.model import read_config

# Rows of a chunk: what is sorted by length together. A CPU shows progress and stops within seconds; a GPU stays full.
CHUNK_ROWS = {"cpu": 1024, "cuda": 16_384, "mps": 8192}


def make(spec: JobSpec) -> Plan:
    """Resolve a job file: look at the source, pin the models, check that all fits, subtract what is done.

    Loads no weights and writes nothing.

    Raises:
        UserError: what the job file says does not fit what is there.
        SourceError: a source file cannot be read.
    """
    kinds_read = [pair for item in spec.tasks for pair in tasks.column_kinds(item.options)]
    texts = {column for column, kind in kinds_read if kind == "text"}
    planned_source, shards = source.plan(spec.source, outside=spec.sink.path, texts=texts)
    planned_tasks, schema = _plan_tasks(spec, planned_source.schema)
    # The value of a partition column stays where it was, in the name of the folder.
    schema = pa.schema([field for field in schema if field.name not in planned_source.partition_columns])
    fingerprint = _fingerprint(planned_source, planned_tasks, schema)
    kinds = [choose_device(task.spec.device).type for task in planned_tasks if task.model is not None]
    plan = Plan(
        # Microseconds, since short runs follow one another within a second and are told apart by order.
        run_id=f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{secrets.token_hex(3)}",
        spec=spec,
        source=planned_source,
        tasks=tuple(planned_tasks),
        schema=schema,
        fingerprint=fingerprint,
        shards=tuple(shards),
        todo=frozenset(),
        chunk_rows=min((CHUNK_ROWS[kind] for kind in kinds), default=CHUNK_ROWS["cuda"]),
    )
    return refresh(plan)


def refresh(plan: Plan) -> Plan:
    """The same plan against the ledger as it is now.

    Raises:
        SpecError: `source.limit` would put fewer rows in the place of finished ones.
    """
    spec = plan.spec
    shards = [replace(shard, limit=None) for shard in plan.shards]
    ledger = Ledger(Store(spec.sink.path)).read()
    done = {shard.slot for shard in shards if _is_done(ledger.get(shard.slot), shard, plan.fingerprint, spec)}
    if spec.source.limit is not None:
        shards, done = _limited(plan.source, shards, done, ledger, plan.fingerprint, spec)
    return replace(plan, shards=tuple(shards), todo=frozenset(shard.slot for shard in shards) - done)


def _plan_tasks(spec: JobSpec, schema: pa.Schema) -> tuple[list[TaskPlan], pa.Schema]:
    """Resolve and check each task against the columns it will find; the schema grows by one column a task."""
    planned = []
    for i, item in enumerate(spec.tasks):
        module = tasks.get(item.task)
        options = item.options
        columns = dict(_columns(schema)) | dict(zip(schema.names, schema.types, strict=True))
        for column, kind in tasks.column_kinds(options):
            if column not in columns:
                raise SpecError(f"tasks.{i}: column {column!r} is not in the source; columns: {', '.join(columns)}")
            if not _holds(type_ := columns[column], kind):
                right = [name for name, type_ in columns.items() if _holds(type_, kind)]
                raise SpecError(
                    f"tasks.{i}: column {column!r} is {type_}, and {item.task} reads {kind}; "
                    f"{kind} columns: {', '.join(right) or 'none'}"
                )
        if item.into in schema.names:
            raise SpecError(f"tasks.{i}.into is {item.into!r}, which the source already has; choose another name")
        if item.device.startswith("cuda") and spec.runner.name == "local" and not torch.cuda.is_available():
            raise SpecError(f"tasks.{i}.device is {item.device!r}, and torch sees no GPU here; choose auto or cpu")
        config = None
        task_plan = _computed(item, i)
        if module.ARCHITECTURE is not None and item.model is not None:
            task_plan = _pinned(task_plan, i)
            try:
                reference = task_plan.reference(weights=False)
                config = read_config(reference)
                if reference.adapter is not None:
                    adapters.check(reference.adapter, reference.path, item.model)
                # An adapter may bring the head that its base lacks.
                if item.adapter is None:
                    module.check(options, config)
            except NightscribeError as error:
                raise ModelError(f"tasks.{i}: {error}") from error
        schema = schema.append(pa.field(item.into, module.output_type(options, config)))
        planned.append(task_plan)
    return planned, schema


def _computed(item: TaskSpec, i: int) -> TaskPlan:
    """The task with its engine and its dtype, nothing pinned yet."""
    try:
        engine = engines.choose(item.engine, item.dtype, choose_device(item.device))
    except ModelError as error:
        raise ModelError(f"tasks.{i}: {error}") from error
    dtype = "float32" if engine == "onnx" else choose_dtype(item.dtype, item.device)
    return TaskPlan(item, None, None, dtype, engine)


def _pinned(task_plan: TaskPlan, i: int) -> TaskPlan:
    item = task_plan.spec
    assert item.model is not None
    model = hub.pin(item.model, item.revision, f"tasks.{i}.model")
    adapter = hub.pin(item.adapter, item.adapter_revision, f"tasks.{i}.adapter") if item.adapter else None
    return replace(task_plan, model=model, adapter=adapter)


def _columns(fields: Iterable[pa.Field], above: str = "") -> Iterator[tuple[str, pa.DataType]]:
    """Every column, and the fields of structs as `column.field`, with their types."""
    for field in fields:
        if not above or "." not in field.name:
            yield above + field.name, field.type
            if pa.types.is_struct(field.type):
                yield from _columns(field.type, f"{above}{field.name}.")


def _holds(type_: pa.DataType, kind: tasks.ColumnKind) -> bool:
    """Whether a column of that Arrow type is what a task reads."""
    if kind == "list<string>":
        lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
        return any(is_list(type_) for is_list in lists) and _holds(type_.value_type, "text")
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)


def _fingerprint(planned: Source, task_plans: Iterable[TaskPlan], schema: pa.Schema) -> str:
    """`<columns>-<everything else>`, so that `on_model_change: keep` can keep what has the same columns."""
    rows = {
        "columns": planned.spec.columns,
        "where": planned.spec.where,
        "prepare": planned.spec.prepare and [planned.spec.prepare, prepare_version(planned.spec.prepare)],
    }
    whole = json.dumps([rows, [task.identity for task in task_plans]], sort_keys=True)
    return f"{_hash(schema.to_string())}-{_hash(whole)}"


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()


def _is_done(entry: Entry | None, shard: Shard, fingerprint: str, spec: JobSpec) -> bool:
    if entry is None:
        return False
    if spec.sink.on_model_change == "keep" and entry.fingerprint.split("-")[0] == fingerprint.split("-")[0]:
        fingerprint = entry.fingerprint
    return entry.finishes(shard, fingerprint)


def _limited(
    planned: Source, shards: list[Shard], done: set[str], ledger: dict[str, Entry], fingerprint: str, spec: JobSpec
) -> tuple[list[Shard], set[str]]:
    """The first shards that together give `source.limit` rows, the last of them cut short.

    Raises:
        SpecError: the limit would put fewer rows in the place of finished ones.
    """
    left = spec.source.limit or 0
    kept: list[Shard] = []
    for shard in shards:
        if not left:
            break
        entry = ledger.get(shard.slot)
        rows = entry.rows_in if entry is not None and shard.slot in done else source.count(planned, shard, left + 1)
        if rows > left and shard.slot not in done:
            shard = replace(shard, limit=left)
            if entry is not None and entry.limit is None and entry.version == shard.version:
                raise SpecError(
                    f"source.limit {spec.source.limit} would replace {entry.rows_out} finished rows of {shard.key!r} "
                    f"by {left}; give a limited run a sink.path of its own"
                )
            if _is_done(entry, shard, fingerprint, spec):
                done = done | {shard.slot}
        kept.append(shard)
        left -= min(rows, left)
    return kept, done
