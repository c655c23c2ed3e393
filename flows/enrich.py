"""The nightly run as a Prefect flow: what `nightscribe run` does, with retries, progress and a report in the UI."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.exceptions import PrefectException
from prefect.states import Cancelled, State
from prefect.tasks import Task, exponential_backoff

from flows import events, form, gpu, logs, names, nights, parts_picture
from jobs import run, spec
from jobs.execute import bar, stop
from jobs.execute.progress import Progress
from jobs.execute.stop import NEVER, StopToken
from jobs.plan import Plan
from jobs.report import accuracy, history, page
from jobs.report.shown import count
from jobs.report.web import web
from jobs.spec import JobSpec
from jobs.store import Store
from jobs.training.spec import TrainingSpec
from transforms.errors import NightscribeError, RunError, SinkBusy, Stopped, TooManyRejects

# Seconds after a cancel until the processes are killed, not counting the time until Prefect notices the cancel.
STOP_WITHIN_S = 10.0


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether another attempt may succeed: yes after an error of a store or network, no after a wrong row or a stop."""
    error = state.result(raise_on_failure=False)
    return isinstance(error, RunError | OSError) and not isinstance(error, TooManyRejects | Stopped | SinkBusy)


@task(
    name="execute",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.3,
    retry_condition_fn=may_pass,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def execute(held: run.Held) -> Any:
    """Enrich every shard that is not done; a retry continues with the first unfinished one.

    Returns:
        None, or a Cancelled state if the run was asked to stop.
    """
    log = get_run_logger()
    plan = held.plan
    about = f"{plan.spec.name} {plan.run_id}"
    progress_id: Any = create_progress_artifact(0.0, key=artifact_key(plan.spec, "progress"), description=about)
    started = time.monotonic()
    picture = parts_picture.Shown(held.sink.store, plan)

    def watch(plan: Plan, progress: Progress) -> None:
        shown = f"{about}\n\n{bar.line(plan, progress, time.monotonic() - started)}"
        try:
            update_progress_artifact(progress_id, progress=percent(plan, progress), description=shown)
            picture.update(artifact_key(plan.spec, "parts"), about)
        except (httpx.HTTPError, PrefectException) as error:
            # While a server restarts, the progress is not shown, but the work goes on.
            log.warning("the progress could not be sent to the Prefect server: %s", error)

    try:
        with run.watching(held, watch, every_s=2.0):
            run.execute(held)
    except Stopped as error:
        return Cancelled(message=str(error))
    finally:
        with suppress(NightscribeError, OSError, httpx.HTTPError, PrefectException):
            picture.update(artifact_key(plan.spec, "parts"), about, now=True)
    return None


@flow(name="enrich", flow_run_name=names.name_of_run, persist_result=False, validate_parameters=True)
def enrich(
    job: form.Job,
    limit: form.Limit = 0,
    dtype: form.Dtype = form.UNCHANGED,
    refresh: form.Refresh = form.UNCHANGED,
    overrides: form.Overrides = [],  # noqa: B006 - Prefect copies it into the form's schema
    dry_run: form.DryRun = False,
) -> Any:
    """Enrich what is new in a lake: plan, execute, finish.

    Returns:
        The report as a dict; None for a dry run; a Cancelled state if the run was asked to stop; a Cancelled state with
        the name Skipped if another run does its work; a Failed state with the error, whose message is one sentence.
    """
    with stop.on_signals(within_s=STOP_WITHIN_S) as stopped, logs.forwarded(stopped.is_set):
        name = Path(job).stem
        try:
            parsed = spec.read(job, overrides)
            parsed = spec.read(job, [*overrides, *form.overrides(limit, dtype, refresh, len(parsed.tasks))])
            name = parsed.name
            if why := nights.superfluous(parsed.schedule.timezone if parsed.schedule else "UTC"):
                return Cancelled(name="Skipped", message=why)
            if dry_run:
                create_markdown_artifact(page.plan_page(run.prepare(parsed)), key=artifact_key(parsed, "plan"))
                return None
            report = run_job(parsed, stopped)
        except Stopped as error:
            return Cancelled(message=str(error))
        except Exception as error:
            return events.failed(name, error)
        events.emit("finished", name, report)
        return report


def run_job(parsed: JobSpec, stopped: StopToken = NEVER) -> dict[str, Any]:
    """Plan a job, execute it, finish it, and show its report; returns the report as a dict.

    Raises:
        Stopped: the run was asked to stop.
        NightscribeError: as `jobs.run.run`.
    """
    log = get_run_logger()
    planned = run.prepare(parsed)
    shards, todo = count(len(planned.shards), "shard"), len(planned.todo)
    log.info("%s, %s to do, into %s", shards, f"{todo:,}", parsed.sink.shown)
    try:
        with gpu.slot(planned), run.holding(planned, stopped) as held:
            state = execute(held, return_state=True)
            if state.is_cancelled():
                raise Stopped(state.message or "the run was asked to stop")
            state.result()
            report = run.finish(held)
    except Stopped:
        # No pictures after a cancel, which must be fast; the sink has the numbers.
        raise
    except NightscribeError:
        # A run that was refused before it wrote anything has no report; an error here must not hide the first one.
        with suppress(NightscribeError, OSError, httpx.HTTPError, PrefectException):
            publish(parsed, planned.run_id)
        raise
    publish(parsed, planned.run_id)
    return report.as_dict()


def publish(job: JobSpec, run_id: str) -> None:
    """The table and the report of a run as artifacts; the HTML page, which shows rows of the lake, goes to the sink.

    Raises:
        SpecError: the run left no report.
    """
    store = Store(job.sink.path)
    kept = history.read(store, run_id)
    before = history.before(store, run_id)
    measured = accuracy.earlier(kept.numbers)
    store.put(f"{history.FOLDER}/{run_id}.html", web(kept, before, measured=measured).encode())
    table = [{"what": what, "value": value} for what, value in page.summary(kept)]
    about = f"{job.name} {run_id}"
    create_table_artifact(table, key=artifact_key(job, "summary"), description=about)
    create_markdown_artifact(page.markdown(kept, before, measured), key=artifact_key(job, "report"), description=about)


def artifact_key(job: JobSpec | TrainingSpec, what: str) -> str:
    """The name of an artifact in the UI, which keeps its history there; letters, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', job.name.lower())}-{what}".strip("-")


def percent(plan: Plan, progress: Progress) -> float:
    """The finished share, by rows if their number is known, else by shards."""
    done, total = (progress.rows_in, plan.rows_expected) if plan.rows_expected else (progress.shards, len(plan.todo))
    return round(min(100.0, 100.0 * done / total), 1) if total else 100.0
