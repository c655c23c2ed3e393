"""The Beam pipeline of a plan: each element is one shard, and one step executes it."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterable, Iterator
from dataclasses import replace

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.utils.shared import Shared

from jobs.execute import code, cores
from jobs.execute import shard as shards
from jobs.execute.progress import Heartbeat
from jobs.execute.stop import NEVER, StopToken
from jobs.models import calibration
from jobs.models.pool import ModelPool
from jobs.parts import check as fitness
from jobs.plan import Plan, planning
from jobs.reuse.rows import OlderRows
from jobs.runners import engine, options, split
from jobs.runners.needs import check
from jobs.sink import open_sink
from jobs.source import Shard
from jobs.store import Store, explain, fencing, names
from transforms.errors import SpecError, UnfitWorker

__all__ = ["check", "execute"]

# What helps where a worker lacks a module of the user.
SHIP = "install the module on every machine, or ship it as a wheel: runner.options.extra_packages: [dist/NAME.whl]"


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
    if plan.spec.runner.is_here:
        plan = split.fixed(plan, chosen := split.choose(plan, todo, pool, stop))
        # Beam deals them out in this order.
        todo = split.largest_first(todo) if chosen.workers > 1 else todo
    # While this function holds the pool, Beam gives it to every DoFn of this process that has the handle.
    shared.acquire(lambda: pool)
    own = split.environments(plan) if plan.spec.runner.is_here else []
    with engine.running(plan.spec.runner, own) as runner:
        pipeline = beam.Pipeline(runner, options.parse(plan.spec.runner))
        build(pipeline, plan, todo, shared, stop)
        engine.wait(pipeline.run(), stop)


def build(pipeline: beam.Pipeline, plan: Plan, todo: Iterable[Shard], models: Shared, stop: StopToken = NEVER) -> None:
    """Add the steps that execute some shards to a pipeline.

    Args:
        pipeline: an empty one.
        plan: the run.
        todo: shards of the plan.
        models: handle of this process's model pool; other processes make their own pools.
        stop: checked between two chunks.
    """
    # beam.Create reshuffles its elements, so the shards are spread over the workers.
    _ = pipeline | "Shards" >> beam.Create(todo) | "Execute" >> beam.ParDo(_ExecuteDoFn(plan, models, stop))


class _ExecuteDoFn(beam.DoFn):
    """Executes shards of a plan. The plan is sent to the workers as text, without its shards."""

    def __init__(self, plan: Plan, models: Shared, stop: StopToken):
        self.plan_json = replace(plan, shards=(), todo={}).to_json()
        self.versions = {} if plan.spec.runner.is_here else fitness.versions()
        self.shared = models
        self.stop = stop

    def setup(self) -> None:
        if self.versions:
            fitness.check_versions(self.versions)
        try:
            self.plan = Plan.from_json(self.plan_json)
            code.check(self.plan)
        except SpecError as error:
            # The planning machine has found the module.
            raise UnfitWorker(f"worker {socket.gethostname()}: {error}; {SHIP}") from error
        self.sink = open_sink(self.plan.spec.sink)
        if not self.plan.spec.runner.is_here:
            _check_sink(self.plan, self.sink.store)
            self.plan, _ = calibration.known(planning.on_this_machine(self.plan))
        if any(task.model is not None for task in self.plan.tasks):
            workers = self.plan.spec.runner.workers
            cores.share(1 if workers == "auto" else workers, self.plan.threads)
        # One copy of the weights per process, however many threads or partitions run this DoFn.
        self.models = self.shared.acquire(ModelPool)
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


def _check_sink(plan: Plan, store: Store) -> None:
    """Refuse a sink that is another one on this machine, where nobody would find the shards.

    Raises:
        UnfitWorker: it has no plan of the run.
    """
    if not plan.spec.runner.is_here and not store.exists(f"{names.PLANS}/{plan.run_id}.json"):
        raise UnfitWorker(
            f"sink.path {plan.spec.sink.path!r} on worker {socket.gethostname()} is not the folder that the run was "
            "planned for; mount it under the same path on every machine, or give a URL"
        )
