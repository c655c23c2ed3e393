"""The nightly run as a Prefect flow: what `nightscribe run` does, with retries, progress and a report in the UI."""

from __future__ import annotations

import re
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
from prefect.runtime import flow_run
from prefect.states import Cancelled, State
from prefect.tasks import Task, exponential_backoff

from flows import events, form, gpu, logs, nights
from jobs import run, spec
from jobs.execute import stop
from jobs.execute.progress import Progress
from jobs.execute.stop import NEVER, StopToken
from jobs.plan import Plan
from jobs.report import Report, history, page
from jobs.spec import JobSpec
from jobs.store import Store
from transforms.errors import NightscribeError, RunError, SinkBusy, Stopped, TooManyRejects

# Who cancels waits no longer than this and what Prefect takes to notice; what has not stopped by then is killed.
STOP_WITHIN_S = 10.0


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether what stopped an attempt may be gone at the next: a store or a network, not a wrong row or a stop."""
    try:
        state.result()
    except (TooManyRejects, Stopped, SinkBusy):
        return False
    except (RunError, OSError):
        return True
    except Exception:
        # Prefect has the error and raises it from the task; here it only says that another attempt would not help.
        return False
    return False


@task(
    name="execute",
    retries=3,
    retry_delay_seconds=exponential_backoff(backoff_factor=10),
    retry_jitter_factor=0.3,
    retry_condition_fn=may_pass,
    persist_result=False,
    cache_policy=NO_CACHE,
)
def execute(held: run.Held) -> None:
    """Enrich every shard that is not done; a retry goes on with the first unfinished one."""
    log = get_run_logger()
    progress_id: Any = create_progress_artifact(
        0.0, key=artifact_key(held.plan.spec, "progress"), description=f"{held.plan.spec.name} {held.plan.run_id}"
    )

    def watch(plan: Plan, progress: Progress) -> None:
        try:
            update_progress_artifact(progress_id, progress=percent(plan, progress))
        except (httpx.HTTPError, PrefectException) as error:
            # A server that restarts stops the picture of the work, not the work.
            log.warning("the server did not take the progress: %s", error)

    with run.watching(held, watch, every_s=2.0):
        run.execute(held)


def name_of_run() -> str:
    """The job, who started it, and for which time: `reviews-nightly, scheduled for 2026-11-25 02:15`."""
    job = flow_run.parameters["job"]
    timezone = None
    try:
        parsed = spec.read(job)
        name, timezone = parsed.name, parsed.schedule and parsed.schedule.timezone
    except NightscribeError:
        # The run itself will say what is wrong with the file.
        name = Path(job).stem
    when = f"{flow_run.scheduled_start_time.in_timezone(timezone or 'UTC'):%Y-%m-%d %H:%M}"
    return f"{name}, {'scheduled for' if 'auto-scheduled' in flow_run.tags else 'started'} {when}"


@flow(name="enrich", flow_run_name=name_of_run, persist_result=False, validate_parameters=True)
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
        The report as a dict; None for a dry run; a Cancelled state if the run was asked to stop, or if it is named
        Skipped because another run does its work.
    """
    parsed = spec.read(job, overrides)
    parsed = spec.read(job, [*overrides, *form.overrides(limit, dtype, refresh, len(parsed.tasks))])
    if why := nights.superfluous(parsed.schedule.timezone if parsed.schedule else "UTC"):
        return Cancelled(name="Skipped", message=why)
    try:
        with logs.forwarded(), stop.on_signals(within_s=STOP_WITHIN_S) as stopped:
            if dry_run:
                create_markdown_artifact(page.plan_page(run.prepare(parsed)), key=artifact_key(parsed, "plan"))
                return None
            report = run_job(parsed, stopped)
    except Stopped as error:
        return Cancelled(message=str(error))
    except Exception as error:
        events.emit("failed", parsed.name, {"error": type(error).__name__, "message": str(error)})
        raise
    events.emit("finished", parsed.name, report)
    return report


def run_job(parsed: JobSpec, stopped: StopToken = NEVER) -> dict[str, Any]:
    """Plan a job, execute it, finish it, and show what came of it; its report as a dict."""
    log = get_run_logger()
    planned = run.prepare(parsed)
    log.info("%d shards, %d to do, into %s", len(planned.shards), len(planned.todo), parsed.sink.path)
    with gpu.slot(planned), run.holding(planned, stopped) as held:
        execute(held)
        report = run.finish(held)
    publish(held.plan, report)
    return report.as_dict()


def publish(plan: Plan, report: Report) -> None:
    """The table and the report of a finished run, as artifacts."""
    store = Store(plan.spec.sink.path)
    kept = history.read(store, report.run_id)
    before = history.before(store, report.run_id)
    table = [{"what": what, "value": value} for what, value in page.summary(kept)]
    about = f"{plan.spec.name} {report.run_id}"
    create_table_artifact(table, key=artifact_key(plan.spec, "summary"), description=about)
    create_markdown_artifact(page.markdown(kept, before), key=artifact_key(plan.spec, "report"), description=about)


def artifact_key(job: JobSpec, what: str) -> str:
    """The name of an artifact in the UI, which keeps its history there; letters, digits and dashes."""
    return f"{re.sub('[^a-z0-9]+', '-', job.name.lower())}-{what}".strip("-")


def percent(plan: Plan, progress: Progress) -> float:
    """How much is done, by rows where their number is known, else by shards."""
    done, total = (progress.rows_in, plan.rows_expected) if plan.rows_expected else (progress.shards, len(plan.todo))
    return round(min(100.0, 100.0 * done / total), 1) if total else 100.0
