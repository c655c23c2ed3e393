"""Publish a night that was held back, because a person approves it."""

from __future__ import annotations

from dataclasses import replace

from jobs import run
from jobs.audit import record
from jobs.audit.check import identity, now
from jobs.audit.record import Approval, Audit
from jobs.plan import Plan, planning
from jobs.report import Report, history
from jobs.sink import open_sink
from jobs.spec import JobSpec
from jobs.store import Store, names
from transforms.errors import RunError, SpecError


def publish(spec: JobSpec, by: str, reason: str, run_id: str | None = None) -> Report:
    """Commit the rows of the night that is held back, and no others, whatever has changed at the source since.

    The approval is recorded before the commit: if this is killed in between, the next run publishes the rows.

    Args:
        spec: the job.
        by: the person.
        reason: why.
        run_id: the run that was held back; by default the last one.

    Raises:
        SpecError: no night is held back, or another one than `run_id`.
        RunError: the staged rows are not those that were audited, or the commit failed.
    """
    store = open_sink(spec.sink).store
    audit = held(store, run_id)
    plan = replace(_plan(store, audit.run_id), run_id=planning.new_run_id())
    with run.holding(plan) as held_run:
        if held_run.plan.todo or identity(held_run.plan, held_run.sink) != audit.rows:
            raise RunError(
                f"the rows that run {audit.run_id} staged are no longer there as they were audited; run the job again, "
                f"which audits what there is"
            )
        record.write(store, replace(audit, approval=Approval(by, reason, now())))
        return run.finish(held_run)


def held(store: Store, run_id: str | None = None) -> Audit:
    """The night that is held back.

    Args:
        store: the sink.
        run_id: the run that it must be; None for any.

    Raises:
        SpecError: there is none, or it is another run.
    """
    last = next(record.newest(store), None)
    if last is None or not last.failed or _is_published(store, last):
        raise SpecError(f"no night is held back in {store.url!r}; `nightscribe report latest` shows the last run")
    if run_id not in (None, last.run_id):
        raise SpecError(f"--run is {run_id!r}, and the night that is held back in {store.url!r} is run {last.run_id}")
    return last


def _is_published(store: Store, audit: Audit) -> bool:
    """Whether the run of an audit has published the rows, as its report says."""
    try:
        return history.read(store, audit.run_id).finished
    except SpecError:
        return False


def _plan(store: Store, run_id: str) -> Plan:
    try:
        return Plan.from_json(store.get(f"{names.PLANS}/{run_id}.json"))
    except FileNotFoundError as error:
        raise RunError(
            f"the plan of run {run_id} is no longer in {store.url}/{names.PLANS}; run the job again"
        ) from error
