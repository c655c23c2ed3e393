"""One run per night: the check of a scheduled run before it starts.

Prefect creates scheduled runs ahead of time and starts late ones, oldest first. After days without a worker, several
runs of one job are late, and one of them would do the work of all (Prefect's issue 15886). Two runs can also be for the
same night, if a schedule was replaced or a clock was set back; Prefect does not notice that.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterExpectedStartTime,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.runtime import flow_run

# A newer run in one of these states makes an older run superfluous; a run that failed or was cancelled does not.
ALIVE = {"SCHEDULED", "PENDING", "RUNNING", "COMPLETED"}
RUNS = 200


def superfluous(timezone: str = "UTC") -> str | None:
    """The reason to skip this scheduled run, or None; a run that a person or an event started is never skipped.

    Args:
        timezone: time zone of the job's schedule; runs with the same wall-clock time are for the same night.
    """
    if not flow_run.id:
        return None
    with get_client(sync_client=True) as client:
        own = client.read_flow_run(UUID(flow_run.id))
        if not _by_schedule(own) or own.deployment_id is None or own.expected_start_time is None:
            return None
        recent = client.read_flow_runs(
            flow_run_filter=FlowRunFilter(
                deployment_id=FlowRunFilterDeploymentId(any_=[own.deployment_id]),
                expected_start_time=FlowRunFilterExpectedStartTime(before_=datetime.now(UTC)),
            ),
            sort=FlowRunSort.EXPECTED_START_TIME_DESC,
            limit=RUNS,
        )
    return reason(own, recent, ZoneInfo(timezone))


def reason(own: FlowRun, others: Iterable[FlowRun], timezone: ZoneInfo) -> str | None:
    """The reason to skip a scheduled run, or None.

    Args:
        own: the run.
        others: runs of its deployment that are due by now, itself among them or not.
        timezone: of the schedule.
    """
    assert own.expected_start_time is not None
    for other in others:
        if other.id == own.id or not _by_schedule(other) or other.expected_start_time is None:
            continue
        state = getattr(other.state_type, "value", other.state_type)
        night = _wall_clock(other.expected_start_time, timezone)
        if night == _wall_clock(own.expected_start_time, timezone):
            # Of two active runs the one with the smaller id continues, whichever of them checks.
            if state == "COMPLETED" or (state in ALIVE and str(other.id) < str(own.id)):
                return f"another run of {night} does this night's work"
        elif other.expected_start_time > own.expected_start_time and state in ALIVE:
            return f"the run of {night} is due too and does the work of this one"
    return None


def _by_schedule(run: FlowRun) -> bool:
    return run.created_by is not None and run.created_by.type == "SCHEDULE"


def _wall_clock(time: datetime, timezone: ZoneInfo) -> str:
    return f"{time.astimezone(timezone):%Y-%m-%d %H:%M}"
