"""Which of several scheduled runs has anything to do."""

from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from prefect.client.schemas.objects import CreatedBy, FlowRun, StateType

from flows import nights

BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = datetime(2026, 11, 25, 1, 15, tzinfo=UTC)


def run(number, time=NIGHT, state=StateType.SCHEDULED, by="SCHEDULE"):
    return FlowRun(
        id=UUID(int=number),
        flow_id=UUID(int=99),
        expected_start_time=time,
        state_type=state,
        created_by=CreatedBy(type=by, id=UUID(int=1)),
    )


@pytest.mark.parametrize("state", [StateType.SCHEDULED, StateType.PENDING, StateType.RUNNING, StateType.COMPLETED])
def test_a_run_for_an_older_night_is_skipped_if_a_newer_one_is_due(state):
    newer = run(2, NIGHT + timedelta(days=1), state)
    assert "the run of 2026-11-26 02:15 is due too" in nights.reason(run(1), [newer, run(1)], BERLIN)
    assert nights.reason(newer, [newer, run(1)], BERLIN) is None


@pytest.mark.parametrize("state", [StateType.FAILED, StateType.CRASHED, StateType.CANCELLED])
def test_a_newer_night_that_failed_does_not_count(state):
    assert nights.reason(run(1), [run(2, NIGHT + timedelta(days=1), state)], BERLIN) is None


def test_a_run_started_by_a_person_is_not_skipped_and_does_not_replace_a_scheduled_run():
    by_hand = run(2, NIGHT + timedelta(days=1), StateType.COMPLETED, by="DEPLOYMENT")
    assert nights.reason(run(1), [by_hand], BERLIN) is None


def test_exactly_one_of_two_runs_of_a_night_continues():
    first, second = run(1), run(2)
    assert nights.reason(first, [first, second], BERLIN) is None
    assert "another run of 2026-11-25 02:15" in nights.reason(second, [first, second], BERLIN)
    assert nights.reason(first, [run(2, state=StateType.COMPLETED)], BERLIN) is not None


def test_the_hour_that_the_clock_shows_twice_is_one_night():
    # On 25 October 2026 02:30 comes twice in Berlin: at 00:30 and at 01:30 UTC.
    first = run(1, datetime(2026, 10, 25, 0, 30, tzinfo=UTC), StateType.COMPLETED)
    second = run(2, datetime(2026, 10, 25, 1, 30, tzinfo=UTC))
    assert "another run of 2026-10-25 02:30" in nights.reason(second, [first], BERLIN)


def test_outside_of_a_flow_run_no_run_is_skipped():
    assert nights.superfluous() is None
