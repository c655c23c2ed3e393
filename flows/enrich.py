"""The nightly run as a Prefect flow: what `nightscribe run` does, with retries, progress and a report in the UI."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

from prefect import flow, get_run_logger, task
from prefect.artifacts import (
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import TaskRun
from prefect.runtime import flow_run
from prefect.states import Cancelled, State
from prefect.tasks import Task, exponential_backoff
from pydantic import Field

from flows import pages
from jobs import run, spec
from jobs.plan import Plan
from jobs.progress import Progress
from jobs.report import Report
from transforms.errors import RunError, SinkBusy, Stopped, TooManyRejects

# Libraries whose lines belong into the log of a run, from these levels.
LOGGERS = {
    "jobs": logging.INFO,
    "transforms": logging.INFO,
    "apache_beam": logging.ERROR,
    "transformers": logging.WARNING,
}

Dtype = Literal["auto", "float32", "bfloat16", "float16"]


def may_pass(_: Task[..., Any], __: TaskRun, state: State[Any]) -> bool:
    """Whether what stopped an attempt may be gone at the next: a store or a network, not a wrong row or a stop."""
    try:
        state.result()
    except (TooManyRejects, Stopped, SinkBusy):
        return False
    except (RunError, OSError):
        return True
    except Exception:
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
def execute(plan: Plan, samples: list[tuple[float, Progress]]) -> None:
    """Enrich every shard that is not done; a retry goes on with the first unfinished one."""
    progress_id: Any = create_progress_artifact(
        0.0, key="enrich-progress", description=f"{plan.spec.name} {plan.run_id}"
    )
    started = time.monotonic()

    def watch(plan: Plan, progress: Progress) -> None:
        samples.append((time.monotonic() - started, progress))
        update_progress_artifact(progress_id, progress=percent(plan, progress))

    with run.watching(plan, watch, every_s=2.0):
        run.execute(plan)


def name_of_run() -> str:
    """The job file's own name, which says more than its path."""
    job = Path(flow_run.parameters["job"])
    return f"enrich {job.parent.name}/{job.stem}" if job.parent.name else f"enrich {job.stem}"


@flow(name="enrich", flow_run_name=name_of_run, persist_result=False, validate_parameters=True)
def enrich(
    job: Annotated[str, Field(title="Job file", description="YAML file: source, tasks, sink", min_length=1)],
    limit: Annotated[int | None, Field(title="Row limit", description="Enrich at most so many rows", gt=0)] = None,
    dtype: Annotated[
        Dtype | None, Field(title="Dtype", description="For every task, instead of the job file's")
    ] = None,
    overrides: Annotated[
        list[str] | None, Field(title="Overrides", description="key=value, such as source.where=\"lang = 'en'\"")
    ] = None,
    dry_run: Annotated[bool, Field(title="Dry run", description="Plan only: nothing is loaded or written")] = False,
) -> Any:
    """Enrich what is new: plan, execute, finish.

    Returns:
        The report as a dict; None for a dry run; a Cancelled state if the run was asked to stop.
    """
    log = get_run_logger()
    changes = [*(overrides or []), *([f"source.limit={limit}"] if limit else [])]
    parsed = spec.read(job, changes)
    if dtype is not None:
        parsed = spec.read(job, [*changes, *(f"tasks.{i}.dtype={dtype}" for i in range(len(parsed.tasks)))])
    started = time.monotonic()
    with logs_forwarded(), run.stopping_cleanly():
        planned = run.prepare(parsed)
        log.info("%d shards, %d to do, into %s", len(planned.shards), len(planned.todo), parsed.sink.path)
        if dry_run:
            create_markdown_artifact(pages.plan_page(planned), key="enrich-plan")
            return None
        samples: list[tuple[float, Progress]] = []
        try:
            with run.holding(planned) as plan:
                execute(plan, samples)
                report = run.finish(plan, time.monotonic() - started)
        except Stopped as error:
            return Cancelled(message=str(error))
    publish(plan, report, samples)
    return pages.as_dict(report)


def publish(plan: Plan, report: Report, samples: list[tuple[float, Progress]]) -> None:
    """The table and the report of a finished run, as artifacts."""
    create_table_artifact(pages.summary_table(plan, report), key="enrich-summary", description=plan.spec.name)
    create_markdown_artifact(pages.report_page(plan, report, samples), key="enrich-report", description=plan.spec.name)


def percent(plan: Plan, progress: Progress) -> float:
    """How much is done, by rows where their number is known, else by shards."""
    done, total = (progress.rows_in, plan.rows_expected) if plan.rows_expected else (progress.shards, len(plan.todo))
    return round(min(100.0, 100.0 * done / total), 1) if total else 100.0


@contextmanager
def logs_forwarded() -> Iterator[None]:
    """Send the lines of our libraries to the log of this run, from whichever thread they come."""
    log = get_run_logger()

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.log(record.levelno, "%s: %s", record.name, record.getMessage())

    handlers = {name: Forward(level) for name, level in LOGGERS.items()}
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in LOGGERS}
    for name, handler in handlers.items():
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(LOGGERS[name])
        # Else the root logger, which Prefect sets up too, shows each line a second time.
        logger.propagate = False
    try:
        yield
    finally:
        for name, handler in handlers.items():
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            logger.level, logger.propagate = before[name]
