"""Whatever happens to workers, every shard is done, and the coordinator comes to an end."""

from __future__ import annotations

import errno
import math
import random
from contextlib import nullcontext, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.parts import Done, State
from jobs.parts.dispatch import Dispatch
from jobs.parts.schedule import MAX_STOPPED, Scheduler
from jobs.source import Shard
from tests.virtual_parts import Conditions, VirtualSite
from transforms.errors import RunError, SinkError

CONDITIONS = st.builds(
    Conditions,
    speeds=st.lists(st.sampled_from([0.25, 1.0, 2.0]), min_size=1, max_size=6).map(tuple),
    start_s=st.sampled_from([0.0, 5.0, 60.0]),
    life_s=st.sampled_from([math.inf, 3000.0, 300.0]),
    notice_s=st.sampled_from([0.0, 30.0, math.inf]),
    straggle=st.sampled_from([0.0, 0.2]),
    refuse=st.sampled_from([0.0, 0.1]),
    fail=st.sampled_from([0.0, 0.05]),
    outages=st.lists(st.tuples(st.floats(0, 2000), st.floats(0, 250)), max_size=2).map(
        lambda each: tuple((begin, begin + lasts) for begin, lasts in each)
    ),
)


def shards_of(count):
    return [Shard("", f"{i}", "", "parquet", 0, 1, rows=1) for i in range(count)]


def virtual(seconds, conditions=None, seed=0, **rules):
    """A site and a dispatch of shards that take so many seconds."""
    shards = shards_of(len(seconds))
    took = {shard.slot: each for shard, each in zip(shards, seconds, strict=True)}
    site = VirtualSite(took, conditions or Conditions((1.0,)), random.Random(seed))
    scheduler = Scheduler(shards, [1.0] * len(shards), **rules)
    return site, Dispatch(site, scheduler, site, clock=lambda: site.now)


@settings(deadline=None)
@given(st.lists(st.floats(0.5, 400), min_size=1, max_size=60), CONDITIONS, st.integers(0, 9), st.booleans())
def test_every_shard_is_done_or_the_run_ends_with_an_error_for_which_there_is_a_reason(seconds, conditions, seed, cut):
    site, dispatch = virtual(seconds, conditions, seed, parts=3 if cut else None)
    scheduler = dispatch.scheduler
    wait = site.wait

    def look(seconds):
        held = {slot for part in scheduler.running.values() for slot in part.left}
        queued = [shard.slot for shard in scheduler.queue]
        assert len(queued) == len(set(queued))
        # Each shard is at one of these places at least, and none that waits is at two.
        assert scheduler.done | held | set(queued) == set(site.seconds)
        assert not set(queued) & (held | scheduler.done)
        assert not held & scheduler.done
        assert all(part.cost == pytest.approx(len(part.left)) for part in scheduler.running.values())
        assert site.now < 1e6
        wait(seconds)

    site.wait = look
    is_quiet = not (conditions.fail or conditions.refuse or math.isfinite(conditions.life_s) or conditions.outages)
    with nullcontext() if is_quiet else suppress(RunError, OSError):
        dispatch.run()
        assert scheduler.done == set(site.executed) == set(site.seconds)
    assert max(scheduler.begun.values(), default=0) <= MAX_STOPPED


def test_without_trouble_each_shard_is_done_once_and_workers_end_together():
    site, dispatch = virtual([30.0] * 400, Conditions((1.0,) * 4, start_s=10.0))
    dispatch.run()
    assert set(site.executed.values()) == {1}
    ideal_s = 400 * 30 / 4
    assert site.now < 1.08 * ideal_s


def test_an_idle_worker_takes_shards_of_a_slow_one():
    conditions = Conditions((1.0, 0.05), start_s=1.0)
    site, dispatch = virtual([20.0] * 60, conditions, parts=2)
    dispatch.run()
    alone, waiting = virtual([20.0] * 60, conditions, parts=2, steals=False, late=math.inf)
    waiting.run()
    assert site.now < alone.now / 5


def test_the_worker_of_a_shard_that_another_one_has_done_is_free_again():
    """It hangs in its first shard, with others behind it that nobody is to wait for."""
    site, dispatch = virtual([10.0] * 12, Conditions((1.0, 1.0), start_s=1.0), parts=2)
    first = dispatch.scheduler.queue[0].slot
    takes, hung = site._finish, []

    def finish(number, slot, is_failure):
        if slot == first and not hung:
            hung.append(number)
            return
        takes(number, slot, is_failure)

    site._finish = finish
    dispatch.run()
    assert dispatch.states[hung[0]].end == "stopped"
    assert len(site.executed) == 12


def test_a_store_that_does_not_answer_for_minutes_costs_no_part():
    site, dispatch = virtual([50.0] * 40, Conditions((1.0,) * 2, start_s=5.0, outages=((100.0, 350.0),)))
    dispatch.run()
    assert set(site.executed.values()) == {1}
    assert dispatch.lost == {}


def test_a_store_that_does_not_answer_any_more_ends_the_run():
    site, dispatch = virtual([50.0] * 40, Conditions((1.0,), outages=((100.0, 9999.0),)))
    with pytest.raises(OSError, match="does not answer"):
        dispatch.run()
    assert 400 < site.now < 450


def test_a_full_disk_ends_the_run_at_once():
    site, dispatch = virtual([50.0] * 40)

    def full(number, shards):
        raise SinkError("the disk is full") from OSError(errno.ENOSPC, "")

    site.write = full
    with pytest.raises(SinkError, match="disk is full"):
        dispatch.run()
    assert site.now == 0


def test_a_coordinator_that_slept_takes_no_worker_for_dead():
    site, dispatch = virtual([500.0] * 4, Conditions((1.0,) * 2, start_s=5.0))
    wait, slept = site.wait, []

    def sleep(seconds):
        if site.now > 100 and not slept:
            slept.append(True)
            # The clock goes on, and no worker could say anything, because the whole machine slept.
            events, site._events = site._events, []
            wait(3000)
            site._events = [(at + 3000, number, happen) for at, number, happen in events]
        wait(seconds)

    site.wait = sleep
    dispatch.run()
    assert dispatch.lost == {}


def test_workers_that_end_before_they_begin_a_shard_end_the_run():
    site, dispatch = virtual([50.0] * 40, Conditions((1.0, 1.0)))
    starts = site.start

    def start(number):
        starts(number)
        site._free(number)
        site._gone[number] = "its process ended with exit code 1"

    site.start = start
    with pytest.raises(
        RunError, match=r"10 parts in a row ended before a worker began a shard, .* exit code 1; see the logs"
    ):
        dispatch.run()


def test_machines_that_last_less_than_a_shard_end_the_run_with_its_file():
    _, dispatch = virtual([5000.0] * 3, Conditions((1.0,), life_s=200.0))
    with pytest.raises(RunError, match=r"a shard of '\d' was begun 5 times, .* may need more memory .* or more time"):
        dispatch.run()


def test_a_part_that_is_tried_again_in_its_place_is_listened_to_from_the_start():
    _, dispatch = virtual([50.0] * 4, parts=1)
    slots = [shard.slot for shard in dispatch.scheduler.queue]
    part = dispatch.scheduler.next(0.0, 1)
    done = [Done(slot, 0.0, 1.0, 1, 1) for slot in slots]
    dispatch._listen([State(part.number, "a", 1.0, 5, done[:2], slots[2])])
    dispatch._listen([State(part.number, "b", 9.0, 1, [done[2]], slots[3])])
    assert dispatch.scheduler.done == set(slots[:3])


def test_shards_that_take_no_time_by_a_coarse_clock_are_handed_out():
    scheduler = Scheduler(shards_of(5000), [1.0] * 5000)
    part = scheduler.next(0.0, 1)
    for shard in part.shards:
        scheduler.finish(shard.slot, -5.0)
    assert len(scheduler.next(1.0, 1).shards) == 1000
