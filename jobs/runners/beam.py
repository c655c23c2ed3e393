"""The Beam pipeline of a plan: each element is one shard, and one step executes it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.utils.shared import Shared

from jobs.execute import code
from jobs.execute import shard as shards
from jobs.execute.progress import Heartbeat
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.reuse.rows import OlderRows
from jobs.runners import processes
from jobs.runners.processes import Processes
from jobs.sink import open_sink
from jobs.source import Shard
from jobs.spec import JobSpec, RunnerSpec
from jobs.store import explain, fencing
from transforms.errors import SpecError


def execute(
    plan: Plan, todo: Iterable[Shard] | None = None, models: ModelPool | None = None, stop: StopToken = NEVER
) -> None:
    """Execute some shards of a plan (by default all unfinished ones); each finished shard gets an entry in the ledger.

    Args:
        plan: the run.
        todo: shards of the plan.
        models: the model pool of this process; other processes make their own pools.
        stop: checked between two chunks.

    Raises:
        RunError: the error that stopped the run; finished shards are kept.
    """
    todo = plan.shards_todo if todo is None else list(todo)
    if not todo:
        return
    pool, shared = models or ModelPool(), Shared()
    # While this function holds the pool, Beam gives it to every DoFn of this process that has the handle.
    shared.acquire(lambda: pool)
    with _executing(plan.spec.runner) as executor, beam.Pipeline(executor, options(plan.spec.runner)) as pipeline:
        # beam.Create reshuffles its elements, so the shards are spread over the workers.
        _ = pipeline | "Shards" >> beam.Create(todo) | "Execute" >> beam.ParDo(_ExecuteDoFn(plan, shared, stop))


class _ExecuteDoFn(beam.DoFn):
    """Executes shards of a plan. The plan is sent to the workers as text, without its shards."""

    def __init__(self, plan: Plan, models: Shared, stop: StopToken):
        self.plan_json = replace(plan, shards=(), todo={}).to_json()
        self.shared = models
        self.stop = stop

    def setup(self) -> None:
        self.plan = Plan.from_json(self.plan_json)
        code.check(self.plan)
        has_models = any(task.model is not None for task in self.plan.tasks)
        if has_models and (workers := self.plan.spec.runner.workers) != "auto" and workers > 1:
            import torch

            torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
        # One copy of the weights per process, however many threads or partitions run this DoFn.
        self.models = self.shared.acquire(ModelPool)
        self.sink = open_sink(self.plan.spec.sink)
        fencing.follow(self.sink.store, self.plan.lease)
        self.older = OlderRows(self.plan, self.sink, self.stop)
        self.heartbeat = Heartbeat(self.sink.store, self.plan.run_id)
        self.rows = Metrics.counter("nightscribe", "rows")
        self.rejected = Metrics.counter("nightscribe", "rejected")
        self.tokens = Metrics.counter("nightscribe", "tokens")

    def process(self, shard: Shard) -> Iterator[str]:
        watch = self.heartbeat.add
        entry = shards.execute_shard(self.plan, shard, self.models, self.sink, self.stop, watch, self.older)
        self.rows.inc(entry.rows_in)
        self.rejected.inc(entry.rows_rejected)
        self.tokens.inc(entry.tokens)
        yield entry.slot

    def finish_bundle(self) -> None:
        try:
            self.heartbeat.write()
        except OSError as error:
            raise explain(error, self.sink.store.url) from error

    def teardown(self) -> None:
        self.older.close()
        if not self.sink.store.local:
            # This machine may never run the command that clears it otherwise.
            shutil.rmtree(self.sink.store.scratch(self.plan.run_id), ignore_errors=True)


@contextmanager
def _executing(spec: RunnerSpec) -> Iterator[Any]:
    """The Beam runner of that name; `local` is the FnApiRunner itself, since DirectRunner may choose another engine.

    Raises:
        RunError: a worker process of this machine was lost in the block.
    """
    if spec.name != "local":
        yield spec.name
    elif spec.workers in ("auto", 1) or "direct_running_mode" in spec.options:
        yield FnApiRunner()
    else:
        lost = Processes([{}] * int(spec.workers))
        with processes.environment(lost) as environment:
            try:
                yield FnApiRunner(environment)
            except Exception:
                lost.check()
                raise


def options(spec: RunnerSpec) -> PipelineOptions:
    """The Beam options of the job, and the number of processes of the local runner."""
    flags = dict(spec.options)
    if spec.name == "local" and isinstance(spec.workers, int) and spec.workers > 1:
        flags = {"direct_num_workers": spec.workers} | flags
    return PipelineOptions.from_dictionary(flags)


def check(spec: JobSpec) -> None:
    """Refuse a runner that Beam does not have, before anything is written.

    Raises:
        SpecError: no such runner.
    """
    name = spec.runner.name
    if name == "local":
        return
    from apache_beam.runners.runner import create_runner

    try:
        create_runner(name)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        # TypeError: the name is that of a module or function, not of a runner class.
        raise SpecError(f"runner.name is {name!r}: {error}; local works everywhere") from error
