"""The gap between two heartbeats, in which a run can be suspended without being taken for one whose machine is gone.

The automation of `flows.automations` waits for an end or another heartbeat after each heartbeat. Prefect's server
evaluates two events at a time, and again later if its database is locked. A heartbeat from about the time of a
suspension may therefore be evaluated after it, and 90 seconds later the automation would mark the waiting run Crashed.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect import get_run_logger
from prefect.client.orchestration import get_client
from prefect.events.filters import EventFilter, EventNameFilter, EventOccurredFilter, EventResourceFilter
from prefect.settings import get_current_settings

from flows.automations import HEARTBEAT_S

BEAT = "prefect.flow-run.heartbeat"
# Seconds from the last heartbeat on, and before the next one, in which no run is suspended.
AFTER_S = 5.0
BEFORE_S = 10.0
PATIENCE_S = 90.0


def wait_for_gap(run_id: UUID) -> None:
    """Wait until the last heartbeat of a run of this process is evaluated and the next one is some seconds away.

    Takes at most about 20 seconds. Without heartbeats it returns at once.
    """
    if (every := get_current_settings().flows.heartbeat_frequency) is None:
        return
    # Prefect sends none more often.
    until_s = max(every, HEARTBEAT_S) - BEFORE_S
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        age_s = last(run_id)
        if age_s is not None and AFTER_S <= age_s <= until_s:
            return
        time.sleep(1)
    get_run_logger().warning("the server has no recent heartbeat of this run; the run is suspended all the same")


def last(run_id: UUID) -> float | None:
    """Seconds since the last heartbeat that the server has stored; None if there is none from the last minutes."""
    now = datetime.now(UTC)
    wanted = EventFilter(
        event=EventNameFilter(name=[BEAT]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
        occurred=EventOccurredFilter(since=now - timedelta(minutes=10), until=now),
    )
    with get_client(sync_client=True) as client:
        found = client.read_events(wanted, limit=1).events
    return (now - found[0].occurred).total_seconds() if found else None
