"""A whole run in one process: plan, one part, finish."""

from __future__ import annotations

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from jobs import runners
from jobs.execute import progress, worker_error
from jobs.execute.progress import Progress, Timeline
from jobs.execute.stop import NEVER, StopToken
from jobs.hub import session
from jobs.hub.session import Counted
from jobs.models import agreement, fit
from jobs.models.pool import ModelPool
from jobs.plan import Plan, planning, remarks, task_plans
from jobs.report import Report, account, night, shown
from jobs.report.night import Asked
from jobs.runners import Runner
from jobs.sink import Entry, open_sink, owner, repository
from jobs.sink.folder import FolderSink
from jobs.source import Shard
from jobs.spec import JobSpec
from jobs.store import explain, lease, names, requests
from jobs.store.lease import Lease

LOG = logging.getLogger(__name__)

# How long a signal may wait to be handled.
AWAKE_S = 0.5
# The least time between two looks at the progress of a run whose sink is not on this machine.
REMOTE_S = 2.0

Watcher = Callable[[Plan, Progress], None]


@dataclass(frozen=True)
class Held:
    """A plan, with the sink that this process holds, and everything that is needed to execute the plan.

    Attributes:
        plan: the run, against the ledger as it was when the sink was taken.
        sink: where the rows go, opened once.
        lease: the right to write there.
        models: loaded tasks of this process; worker processes have pools of their own.
        stop: asks every process of the run to stop.
        timeline: progress over time, over all attempts at the run.
        splits: of each attempt, how this machine was divided between processes.
        batches: of the last attempt, how large the batches of each task were, and why.
    """

    plan: Plan
    sink: FolderSink
    lease: Lease
    models: ModelPool
    stop: StopToken
    timeline: Timeline = field(default_factory=Timeline)
    splits: list[str] = field(default_factory=list)
    batches: list[str] = field(default_factory=list)


def run(
    spec: JobSpec,
    watch: Watcher | None = None,
    every_s: float = 0.5,
    stop: StopToken = NEVER,
    only_rejected: bool = False,
    say: Callable[[str], None] | None = None,
) -> Report:
    """Enrich everything that is not done yet: plan, one part, finish.

    Args:
        spec: the job.
        watch: called about every `every_s` seconds with the plan and the totals so far.
        every_s: seconds between two calls of `watch`.
        stop: asks the run to stop between two chunks.
        only_rejected: only try rejected rows again.
        say: called with a sentence if the run continues one that did not finish, or if files lack a column.

    Raises:
        UserError: nothing was written.
        RunError: finished shards are kept, and another run continues from them.
    """
    with holding(prepare(spec, only_rejected), stop) as held:
        if say is not None:
            if done := _done_before(held):
                say(shown.continued(done, len(held.plan.shards)))
            for sentence in remarks.lacking(held.plan):
                say(sentence)
        with watching(held, watch, every_s):
            execute(held)
        return finish(held)


def _done_before(held: Held) -> int:
    """Shards that runs which did not finish have done; 0 without asking the store if no or all shards are done."""
    done = {shard.slot for shard in held.plan.shards} - held.plan.todo.keys()
    return len(done & held.sink.staged.read().keys()) if done and held.plan.todo else 0


def prepare(spec: JobSpec, only_rejected: bool = False) -> Plan:
    """Plan a job. A wrong job file is found here, before anything is written, even a lock.

    Args:
        spec: the job.
        only_rejected: only try rejected rows again.

    Raises:
        UserError: the job file does not fit the source, the models or the sink.
    """
    runners.check(spec)
    plan = planning.make(spec, only_rejected)
    fit.check(plan, from_hub=True)
    return plan


@contextmanager
def holding(plan: Plan, stop: StopToken = NEVER) -> Iterator[Held]:
    """Take the lease on the sink, and compare the plan with the ledger again under the lease.

    Raises:
        SinkBusy: another run holds the sink.
        SinkError: it cannot be written.
        ModelError: a task in int8 agrees too little with float32.
    """
    sink = open_sink(plan.spec.sink)
    store = sink.store
    models = ModelPool()
    try:
        with lease.hold(store) as leased:
            sink.claim(leased.number)
            sink.recover()
            if sink.mirror is not None:
                repository.follow(plan.spec, sink.mirror, sink.published)
            owner.check(plan.spec, store)
            plan = replace(plan, lease=leased.number)
            plan = planning.refresh(plan, sink)
            fit.download(plan)
            if any(task.first is not None for task in plan.tasks):
                # Imported here because it imports scipy's statistics, which take half a second.
                from jobs.cascade import measure

                plan = measure.check(plan, models, sink, stop)
            plan = agreement.check(plan, models, store)
            if not plan.spec.runner.is_here or plan.spec.runner.workers not in ("auto", 1):
                # Worker processes load their own models.
                models.clear()
            sink.enter_copies(plan)
            store.clear_temporary()
            owner.record(plan.spec, store, plan.source.file_schema, task_plans.outputs(plan))
            if plan.layouts is not None:
                plan.layouts.keep(leased.number)
            store.put(f"{names.PLANS}/{plan.run_id}.json", plan.to_json().encode())
            LOG.info("run %s: %d of %d shards to do", plan.run_id, len(plan.todo), len(plan.shards))
            held = Held(plan, sink, leased, models, stop)
            try:
                yield held
            except Exception as error:
                entries, samples, asked = sink.entries(), held.timeline.samples, _asked(held)
                night.record_unfinished(plan, store, entries, samples, asked, error, held.splits, held.batches)
                raise
            finally:
                store.clear_temporary()
    except OSError as error:
        raise explain(error, store.url) from error
    finally:
        models.clear()


def execute(held: Held) -> None:
    """Execute the shards that are not done yet. Errors of workers are raised as the workers raised them.

    The ledger is read again first, so that a second attempt does only what the first one did not finish.

    Raises:
        RunError: as raised in a worker.
    """
    if not (todo := planning.refresh(held.plan, held.sink).shards_todo):
        return
    # Found here, because Beam takes most of a second to import, which a night without new rows need not wait for.
    runner = runners.find(held.plan.spec.runner.name)
    # Beam runs in another thread, because a signal is handled only when this thread wakes up, and Beam can block it for
    # as long as its workers run.
    with ThreadPoolExecutor(1, "runner") as threads:
        # In a copy of this context, in which Prefect keeps the flow run that is running.
        context = contextvars.copy_context()
        future = threads.submit(context.run, _execute, runner, held, todo)
        while not wait([future], AWAKE_S).done:
            continue
    try:
        future.result()
    except Exception as error:
        raise worker_error.received(error, held.stop) from error


def _execute(runner: Runner, held: Held, todo: list[Shard]) -> None:
    plan = held.plan
    if plan.spec.runner.is_here:
        from jobs.models import calibration
        from jobs.runners import split

        plan, held.batches[:] = calibration.settle(plan, todo, held.models, held.stop)
        chosen = split.choose(plan, todo, held.models, held.stop)
        held.splits.append(str(chosen))
        plan = split.fixed(plan, chosen)
    runner.execute(plan, todo, held.models, held.stop)


def finish(held: Held) -> Report:
    """Check the row counts, draw rows for review, commit the staged rows, remove what they replace, write the report.

    The rows of a dataset are published to the Hub after the commit.

    Args:
        held: the run, executed.

    Raises:
        RunError: the row counts do not add up, too many rows were rejected, the audit holds the rows back, or the Hub
            does not take them.
    """
    plan, sink = held.plan, held.sink

    def check(entries: Mapping[str, Entry]) -> None:
        account(plan, entries)
        if plan.spec.sink.audit is not None:
            # Imported here, because most jobs have no audit.
            from jobs.audit.check import check as audit

            audit(plan, sink, entries)
        held.lease.check()

    if plan.spec.review is None:
        removed, drawn = sink.commit(plan, check), 0
    else:
        # Imported here because it imports the metrics, which takes a second.
        from jobs.review import night as review

        removed, drawn = review.commit(plan, sink, check)
    publication = None
    if sink.mirror is not None:
        # Imported here because it imports `datasets`, which takes a second.
        from jobs.sink.publish import publish

        publication = publish(plan, sink, sink.mirror, held.lease.check)
    asked = _asked(held)
    # Those of runs that were killed too.
    for folder in (names.PROGRESS, names.PARTS):
        sink.store.delete_all(folder)
    entries, samples, how = sink.entries(), held.timeline.samples, (held.splits, held.batches)
    report = night.record(plan, sink.store, entries, samples, removed, drawn, asked, publication, None, *how)
    sink.tidy()
    return report


def _asked(held: Held) -> Asked:
    """The requests so far: of this process, and of workers as they have reported them."""
    workers = progress.read(held.sink.store, held.plan.run_id)
    return Asked(
        session.taken() + Counted(workers.hub_requests, workers.hub_bytes), requests.taken() + workers.store_requests
    )


@contextmanager
def watching(held: Held, watch: Watcher | None, every_s: float) -> Iterator[None]:
    """Call `watch` with the totals from a thread for as long as the block runs, and once at its end.

    Args:
        held: the run.
        watch: called with the plan and the totals so far.
        every_s: seconds between two calls, each a sample of the run's timeline.
    """
    plan, store = held.plan, held.sink.store
    done = threading.Event()

    def look_once() -> None:
        totals = progress.read(store, plan.run_id)
        held.timeline.add(totals)
        if watch is not None:
            watch(plan, totals)

    def look_on() -> None:
        # Each look is a listing and a request for each worker, which an object store takes money for.
        while not done.wait(every_s if store.local else max(every_s, REMOTE_S)):
            look_once()

    if not held.timeline.samples:
        # A first sample of zero, so that a run shorter than `every_s` has a speed too.
        held.timeline.add(Progress())
    # In a copy of this context, as in `execute`.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(look_on,), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look_once()
