"""The budget of requests that the processes of a machine share."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from jobs.hub import limiter
from jobs.hub.limiter import Limiter

HUB = "http://hub"


def said(left: int, reset_s: int, whole: int = 500) -> dict[str, str]:
    """Headers of an answer."""
    return {"RateLimit": f'"api";r={left};t={reset_s}', "RateLimit-Policy": f'"fixed window";"api";q={whole};w=300'}


@pytest.fixture
def one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Limiter:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Limiter(HUB, None)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Instead of waiting for five minutes, the seconds are noted, and the clock goes on by them."""
    found: list[float] = []
    sleep, own = time.sleep, threading.get_ident()
    # Threads that earlier tests have left in this process sleep on.
    monkeypatch.setattr(time, "sleep", lambda s: found.append(s) if threading.get_ident() == own else sleep(s))
    now, steady = time.time, time.monotonic
    monkeypatch.setattr(time, "time", lambda: now() + sum(found))
    monkeypatch.setattr(time, "monotonic", lambda: steady() + sum(found))
    return found


def test_while_many_requests_are_left_the_file_is_seldom_written(one: Limiter, monkeypatch: pytest.MonkeyPatch):
    written = []
    write = limiter.user_cache.write
    monkeypatch.setattr(limiter.user_cache, "write", lambda *of: (written.append(of), write(*of)))
    one.learn("api", said(3000, 200, whole=3000))
    for n in range(1, 301):
        one.take("api")
        one.learn("api", said(3000 - n, 200, whole=3000))
    assert len(written) < 30


def test_two_processes_do_not_take_more_than_is_left(one: Limiter, pauses: list[float]):
    two = Limiter(HUB, None)
    one.learn("api", said(100, 200))
    taken = 0
    while not pauses:
        (one, two)[taken % 2].take("api")
        taken += 1
    # The last one waited for the next window.
    assert taken == 101
    assert 190 < pauses[0] < 202


def test_requests_of_other_machines_count(one: Limiter, pauses: list[float]):
    one.learn("api", said(100, 200))
    one.take("api")
    one.learn("api", said(0, 200))
    one.take("api")
    assert 190 < sum(pauses) < 202


def test_an_answer_from_the_window_before_says_nothing_about_this_one(one: Limiter, pauses: list[float]):
    one.learn("api", said(500, 300))
    one.learn("api", said(0, 1))
    one.take("api")
    assert pauses == []


def test_a_hub_that_states_no_budget_is_left_in_peace_as_long_as_it_asks(one: Limiter, pauses: list[float]):
    one.take("api")
    one.learn("api", {}, pause_s=30)
    Limiter(HUB, None).take("api")
    assert 29 < sum(pauses) < 32
    for _ in range(5):
        one.take("api")
    assert sum(pauses) < 32


def test_no_request_waits_longer_than_the_longest_wait(one: Limiter, pauses: list[float]):
    one.learn("api", said(0, 10_000))
    one.take("api")
    assert sum(pauses) == pytest.approx(limiter.MAX_WAIT_S, abs=10)


def test_a_folder_that_cannot_be_written_does_not_stop_the_run(one: Limiter, tmp_path: Path, caplog):
    (tmp_path / "nightscribe").write_text("a file where the folder should be")
    for _ in range(3):
        one.take("api")
        one.learn("api", said(0, 200))
    assert caplog.text.count("cannot be written") == 1
