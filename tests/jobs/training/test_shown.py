"""The lines that a log has about the progress of a training."""

import pytest

from jobs.training import shown


@pytest.fixture
def clock(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr(shown.time, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize(("at_once", "steps"), [(False, [31, 61]), (True, [1, 31, 61])])
def test_a_line_is_told_every_30_seconds_and_the_first_one_at_once_if_that_is_wanted(clock, at_once, steps):
    said = []
    tell = shown.lines("reviews", said.append, at_once=at_once)
    for step in range(1, 80):
        tell({"step": step, "steps": 1200, "loss": 0.5, "learning_rate": 1e-3})
        clock[0] += 1
    assert said == [f"reviews: step {step} of 1,200, loss 0.5" for step in steps]


def test_fewer_rows_at_once_are_told_at_once_and_a_stage_by_its_name(clock):
    said = []
    tell = shown.lines("reviews", said.append)
    tell({"step": 3, "steps": 9, "memory": "4 rows at once"})
    clock[0] += shown.LINE_EVERY_S
    tell({"step": 4, "steps": 9, "stage": "reward", "kl": 0.25})
    assert said == ["reviews: 4 rows at once", "reviews, reward: step 4 of 9, kl 0.25"]
