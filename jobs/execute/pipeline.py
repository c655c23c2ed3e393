"""The pipeline: shards in, enriched part files out. Each DoFn calls a plain function that is tested without Beam."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import apache_beam as beam
import pyarrow as pa
import torch
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.utils.shared import Shared

from jobs import source
from jobs.execute import chunk as chunks
from jobs.execute.chunk import Chunk
from jobs.execute.progress import Progress, heartbeat
from jobs.plan import Plan, TaskPlan
from jobs.sink.parts import ShardWriter
from jobs.source import BadRow, Shard
from jobs.spec import RunnerSpec
from jobs.store import explain
from transforms import model as models
from transforms import task as tasks
from transforms.errors import SinkError, SpecError, Stopped
from transforms.task import Annotator

# Set from a signal handler; workers look at it between chunks.
stop = threading.Event()

# Loaded tasks that wait for the run in this process, by `_key`.
_kept: dict[str, Annotator] = {}


def execute(plan: Plan, shards: Iterable[Shard] | None = None) -> None:
    """Enrich some shards of a plan (all that are to do, if none are named), each published as it is finished.

    Raises:
        RunError: what stopped the run; what was published stays.
    """
    todo = plan.shards_todo if shards is None else list(shards)
    if not todo:
        return
    bare = replace(plan, shards=(), todo=frozenset())
    with beam.Pipeline(runner(plan.spec.runner), options(plan.spec.runner)) as pipeline:
        # Create reshuffles what it makes, so the shards are spread over the workers.
        chunk = pipeline | "Shards" >> beam.Create(todo) | "Read" >> Read(bare)
        for task in bare.tasks:
            chunk = chunk | f"{task.spec.task} -> {task.spec.into}" >> Annotate(bare, task)
        _ = chunk | "Write" >> Write(bare)


def runner(spec: RunnerSpec) -> Any:
    """The Beam runner of that name; `local` is the FnApiRunner itself, since DirectRunner may choose another engine."""
    return FnApiRunner() if spec.name == "local" else spec.name


def options(spec: RunnerSpec) -> PipelineOptions:
    """Beam's options, word for word, with the local runner's processes."""
    flags = dict(spec.options)
    if spec.name == "local" and isinstance(spec.workers, int) and spec.workers > 1:
        flags = {"direct_running_mode": "multi_processing", "direct_num_workers": spec.workers} | flags
    return PipelineOptions.from_dictionary(flags)


def read(plan: Plan, shard: Shard) -> Iterator[Chunk]:
    """A shard as chunks, at least one, the last one marked.

    Raises:
        SourceError: the file is not what it was when it was planned.
        Stopped: the run was asked to stop.
    """
    waiting: Chunk | None = None
    bad: list[BadRow] = []
    index = 0
    for item in source.read(plan.source, shard, plan.chunk_rows):
        if stop.is_set():
            raise Stopped("the run was asked to stop; a rerun goes on with the first unfinished shard")
        if isinstance(item, BadRow):
            bad.append(item)
            continue
        if waiting is not None:
            yield waiting
        waiting = Chunk(shard, index, False, item, chunks.unreadable(bad, plan.source.schema))
        index, bad = index + 1, []
    rest = chunks.unreadable(bad, plan.source.schema)
    if waiting is not None and rest is None:
        yield replace(waiting, last=True)
        return
    if waiting is not None:
        yield waiting
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in plan.source.schema], schema=plan.source.schema)
    yield Chunk(shard, index, True, empty, rest)


def annotate(chunk: Chunk, annotator: Annotator, name: str, into: str, plan: Plan) -> Chunk:
    """The chunk with one more column; rows that break the task are moved to the rejected."""
    annotation = annotator(chunk.batch)
    batch = chunk.batch.append_column(into, annotation.values)
    grown = replace(
        chunk,
        batch=batch,
        tokens=chunk.tokens + annotation.tokens,
        padded_tokens=chunk.padded_tokens + annotation.padded_tokens,
    )
    return chunks.reject(grown, list(annotation.failures), name, plan.source.schema)


def load(task: TaskPlan) -> Annotator:
    """A task with its weights, ready to annotate; one that was kept for this is handed over."""
    if (kept := _kept.pop(_key(task), None)) is not None:
        return kept
    module = tasks.get(task.spec.task)
    model = None if module.ARCHITECTURE is None else models.load(task.reference(), module.ARCHITECTURE)
    annotator = module.load(task.spec.options, model, task.spec.max_tokens)
    columns = tasks.columns_read(task.spec.options)
    return lambda batch: annotator(tasks.with_fields(batch, columns))


def keep(plan: Plan, task: TaskPlan, annotator: Annotator) -> None:
    """Keep a loaded task for whoever loads it next, if the plan is executed in this process."""
    if plan.spec.runner.name == "local" and plan.spec.runner.workers in ("auto", 1):
        _kept[_key(task)] = annotator


def forget() -> None:
    """Let go of what was kept and not loaded."""
    _kept.clear()


def _key(task: TaskPlan) -> str:
    return json.dumps(replace(task, agreement=None).to_json(), sort_keys=True)


class _PlanDoFn(beam.DoFn):
    """A DoFn of a plan, which travels as text."""

    def __init__(self, plan: Plan):
        self.plan_json = plan.to_json()

    def setup(self) -> None:
        self.plan = Plan.from_json(self.plan_json)


class _ReadDoFn(_PlanDoFn):
    def process(self, shard: Shard) -> Iterator[Chunk]:
        yield from read(self.plan, shard)


class _AnnotateDoFn(_PlanDoFn):
    def __init__(self, plan: Plan, task: TaskPlan):
        super().__init__(plan)
        self.task_index = [item.spec.into for item in plan.tasks].index(task.spec.into)
        # One copy of the weights a process, however many threads or partitions run this DoFn.
        self.shared = Shared()

    def setup(self) -> None:
        super().setup()
        self.task = self.plan.tasks[self.task_index]
        if (workers := self.plan.spec.runner.workers) != "auto" and workers > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        self.annotator = self.shared.acquire(lambda: load(self.task))
        self.tokens = Metrics.counter("nightscribe", f"{self.task.spec.into}.tokens")
        self.rejected = Metrics.counter("nightscribe", f"{self.task.spec.into}.rejected")

    def process(self, chunk: Chunk) -> Iterator[Chunk]:
        result = annotate(chunk, self.annotator, self.task.spec.task, self.task.spec.into, self.plan)
        self.tokens.inc(result.tokens - chunk.tokens)
        self.rejected.inc(result.rows_rejected - chunk.rows_rejected)
        yield result


class _WriteDoFn(_PlanDoFn):
    def setup(self) -> None:
        super().setup()
        self.writer = ShardWriter(self.plan)
        self.heartbeat = heartbeat(self.plan.spec.sink.path, self.plan.run_id)
        self.rows = Metrics.counter("nightscribe", "rows")

    def process(self, chunk: Chunk) -> Iterator[str]:
        entry = self.writer.write(chunk)
        self.rows.inc(len(chunk.batch))
        progress = Progress(
            rows_in=len(chunk.batch) + chunk.rows_rejected,
            rows_rejected=chunk.rows_rejected,
            shards=int(entry is not None),
            tokens=chunk.tokens,
            padded_tokens=chunk.padded_tokens,
        )
        try:
            self.heartbeat.add(progress)
        except OSError as error:
            raise explain(error, self.plan.spec.sink.path) from error
        if entry is not None:
            yield entry.slot

    def finish_bundle(self) -> None:
        if unfinished := self.writer.abandon():
            raise SinkError(f"{len(unfinished)} shards had no last chunk; the runner lost rows or split them up")
        self.heartbeat.write()


def _ptransform(make: Callable[..., beam.DoFn], gives: type) -> Callable[..., beam.PTransform]:
    def transform(*args: Any) -> beam.PTransform:
        return beam.ParDo(make(*args)).with_output_types(gives)

    return transform


Read = _ptransform(_ReadDoFn, Chunk)
Annotate = _ptransform(_AnnotateDoFn, Chunk)
Write = _ptransform(_WriteDoFn, str)


def check_runner(spec: RunnerSpec) -> None:
    """Refuse a runner that Beam does not have, before anything is written.

    Raises:
        SpecError: no such runner.
    """
    if spec.name == "local":
        return
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(spec.name)
    except (ImportError, ValueError, AttributeError) as error:
        raise SpecError(f"runner.name is {spec.name!r}: {error}; local works everywhere") from error
