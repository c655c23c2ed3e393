"""A whole run in one process: plan, one part, finish."""

from __future__ import annotations

import logging
import os
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress

import psutil

from jobs.execute import pipeline, progress
from jobs.execute.progress import Progress, Timeline
from jobs.models import agreement
from jobs.plan import Plan, planning
from jobs.report import Report, account, details, history
from jobs.report.findings import look
from jobs.sink.ledger import Ledger
from jobs.sink.parts import superseded
from jobs.spec import JobSpec
from jobs.store import Store, explain, lease
from transforms import errors
from transforms.errors import NightscribeError, RunError, Stopped

LOG = logging.getLogger(__name__)

# How long a signal may wait to be handled.
AWAKE_S = 0.5

Watcher = Callable[[Plan, Progress], None]


def run(spec: JobSpec, watch: Watcher | None = None, every_s: float = 0.5) -> Report:
    """Enrich everything that is not done yet: plan, one part, finish.

    Args:
        spec: the job.
        watch: called about every `every_s` seconds with the plan and the totals so far.
        every_s: seconds between two calls of `watch`.

    Raises:
        UserError: nothing was written.
        RunError: what is finished stays, and a rerun goes on from there.
    """
    started = time.monotonic()
    with holding(prepare(spec)) as plan:
        timeline = Timeline()
        with watching(plan, watch, every_s, timeline):
            execute(plan)
        return finish(plan, time.monotonic() - started, timeline)


def prepare(spec: JobSpec) -> Plan:
    """Plan a job; a wrong job file is found out here, before anything is written, even a lock.

    Raises:
        UserError: what the job file says does not fit what is there.
    """
    pipeline.check_runner(spec.runner)
    return planning.make(spec)


@contextmanager
def holding(plan: Plan) -> Iterator[Plan]:
    """Hold the sink for a plan, and give the plan against the ledger as it is once nobody else writes.

    Raises:
        SinkBusy: another run holds the sink.
        SinkError: it cannot be written.
        ModelError: a task in int8 agrees too little with float32.
    """
    store = Store(plan.spec.sink.path)
    try:
        with lease.hold(store):
            plan = agreement.check(planning.refresh(plan))
            store.clear_temporary()
            store.put(f"_nightscribe/plans/{plan.run_id}.json", plan.to_json().encode())
            LOG.info("run %s: %d of %d shards to do", plan.run_id, len(plan.todo), len(plan.shards))
            yield plan
    except OSError as error:
        raise explain(error, store.url) from error
    finally:
        pipeline.forget()


def execute(plan: Plan) -> None:
    """Execute all that is to do, with the errors of workers told as they were raised.

    Raises:
        RunError: as raised in a worker.
    """
    # In a thread, with this one awake: a signal was seen to wait for as long as Beam waited for its workers.
    with ThreadPoolExecutor(1, "pipeline") as pool:
        future = pool.submit(pipeline.execute, plan)
        while not wait([future], AWAKE_S).done:
            continue
    try:
        future.result()
    except Exception as error:
        raise worker_error(error) from error


def finish(plan: Plan, seconds: float, timeline: Timeline | None = None) -> Report:
    """Check the accounts and publish: rows of changed sources go, the report is written.

    Args:
        plan: the run, executed.
        seconds: how long that took.
        timeline: how it went, for the report.

    Raises:
        RunError: the accounts do not add up, or too many rows were rejected.
    """
    store = Store(plan.spec.sink.path)
    ledger = Ledger(store)
    entries = ledger.read()
    for entry in superseded(plan, entries.values()):
        ledger.remove(entry)
        del entries[entry.slot]
    for name in ledger.orphans(entries.values()):
        store.delete(name)
    for name in store.names(progress.folder(plan.run_id)):
        store.delete(name)
    report = account(plan, entries, seconds)
    findings = look(plan, (entry for entry in entries.values() if entry.run_id == plan.run_id))
    kept = details(plan, report, findings, timeline.samples if timeline else [])
    store.put(f"{history.FOLDER}/{plan.run_id}.json", kept.encode())
    LOG.info("run %s: %d rows out, %d rejected", plan.run_id, report.rows_out, report.rows_rejected)
    return report


@contextmanager
def watching(plan: Plan, watch: Watcher | None, every_s: float, timeline: Timeline | None = None) -> Iterator[None]:
    """Call `watch` with the totals from a thread for as long as the block runs, and once at its end.

    Args:
        plan: the run.
        watch: called with the plan and the totals so far.
        every_s: seconds between two looks.
        timeline: takes a sample at each.
    """
    store = Store(plan.spec.sink.path)
    done = threading.Event()

    def look_once() -> None:
        totals = progress.read(store, plan.run_id)
        if timeline is not None:
            timeline.add(totals)
        if watch is not None:
            watch(plan, totals)

    def look_on() -> None:
        while not done.wait(every_s):
            look_once()

    if timeline is not None:
        # From nothing, so that a run shorter than one look has a speed too.
        timeline.add(Progress())
    thread = threading.Thread(target=look_on, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        look_once()


@contextmanager
def stopping_cleanly(within_s: float | None = None) -> Iterator[None]:
    """Turn SIGTERM and Ctrl-C into a stop between two chunks; worker processes end with this one.

    A second signal ends the process at once, which loses no finished shard either.

    Args:
        within_s: after so many seconds what has not stopped is killed, this process and all below it.
    """
    deadline = threading.Timer(within_s or 0, _kill_tree)
    deadline.daemon = True

    def ask(number: int, frame: object) -> None:
        pipeline.stop.set()
        for child in psutil.Process().children(recursive=True):
            # Beam's workers and no other child: the embedded Prefect server has the end of the run to record.
            with suppress(psutil.Error):
                if "apache_beam.runners.worker.sdk_worker_main" in child.cmdline():
                    child.terminate()
        signal.signal(number, signal.SIG_DFL)
        if within_s is not None:
            deadline.start()

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        deadline.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        pipeline.stop.clear()


def _kill_tree() -> None:
    """Kill every process below this one, then this one: nothing interrupts a forward pass, or Beam without workers."""
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    os.kill(os.getpid(), signal.SIGKILL)


def worker_error(error: Exception) -> NightscribeError:
    """What a worker raised, without what Beam adds to it.

    From a worker process only a text arrives, a traceback whose last line names our error.
    """
    if pipeline.stop.is_set():
        return Stopped("the run was asked to stop; finished shards are kept, a rerun goes on from there")
    text = re.sub(r"\s*\[while running .*?\]", "", str(error), flags=re.DOTALL)
    if isinstance(error, NightscribeError):
        return type(error)(text)
    for line in reversed(text.splitlines()):
        name, colon, message = line.strip().partition(": ")
        kind = getattr(errors, name.rsplit(".", 1)[-1], None) if name.startswith("transforms.errors.") else None
        if colon and isinstance(kind, type) and issubclass(kind, NightscribeError):
            return kind(message)
    last = next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)
    return RunError(f"a worker failed: {last.strip()}")
