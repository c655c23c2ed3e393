"""Parts in processes of their own: the rows of a local run, whatever happens to the workers."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from jobs import run
from jobs.parts import Done, Run, State, dispatch, run_file, state_file, timeline, worker
from jobs.parts.board import Board
from jobs.parts.dispatch import Dispatch
from jobs.parts.schedule import Scheduler
from jobs.parts.timeline import Bar, Timeline
from jobs.store import Store
from tests import lake
from tests.part_processes import Processes
from tests.waiting_job import FILES, ROWS, leftovers, local_contents, waiting_job
from transforms.errors import RunError, SourceError, UnfitWorker

OTHER_VERSIONS = (
    r"has other versions .*: nightscribe 0\.1\.0 \(\w+\) instead of 0\.0\.1 \(abc\), .*"
    r"torch 2\S+ instead of 1\.0"
)


def in_parts(job, workers=2, during=None, parts=None, environment=None, before=None):
    """Run a job in parts; `during` is called with the site and the dispatch in a thread."""
    with run.holding(run.prepare(job)) as held:
        site = Processes(held.sink.store.root, held.plan.run_id, workers, environment or {})
        board = Board(held.sink.store, held.plan)
        todo = held.plan.shards_todo
        made = Dispatch(board, Scheduler(todo, [1.0] * len(todo), parts=parts), site)
        if before is not None:
            before(board, site, made)
        thread = threading.Thread(target=during, args=(site, made), daemon=True) if during else None
        try:
            if thread is not None:
                thread.start()
            made.run()
            board.clear()
            return run.finish(held), made
        finally:
            site.close()


def wait_for(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return found


def test_parts_write_the_bytes_of_a_local_run(tmp_path):
    job = waiting_job(tmp_path)
    report, made = in_parts(job, workers=2, parts=3)
    assert report.rows_in == report.rows_out == FILES * ROWS
    assert len({state.worker for state in made.states.values()}) == len(made.states) >= 3
    assert lake.contents(tmp_path / "out") == local_contents(tmp_path, job)
    assert leftovers(tmp_path) == []


def test_the_shards_of_a_killed_worker_are_done_by_another(tmp_path):
    job = waiting_job(tmp_path, milliseconds=30)

    def kill(site, made):
        wait_for(lambda: made.states.get(1) and made.states[1].current)
        site.kill(1)

    report, made = in_parts(job, during=kill, parts=2)
    assert report.rows_out == FILES * ROWS
    assert "exit code -9" in made.lost[1]
    assert lake.contents(tmp_path / "out") == local_contents(tmp_path, waiting_job(tmp_path, milliseconds=30))
    assert leftovers(tmp_path) == []


def test_the_timeline_of_a_run_has_the_parts_of_those_before_it_that_were_killed(tmp_path):
    job, store, killed = waiting_job(tmp_path), Store(str(tmp_path / "out")), "20260101T000000000000-abcdef"
    store.put(run_file(killed), Run("", {}, "").to_json())
    # Part 1 had ended when they were recorded, part 2 and 4 had not; part 2 has ended, and part 3 has done a shard.
    bars = [Bar(1, "host-1", 10.0, 12.0, "done"), Bar(2, "host-2", 11.0, 11.5), Bar(4, "host-4", 11.0, 11.5)]
    timeline.write(store, killed, Timeline(bars))
    ended = State(2, "host-2", 11.0, done=[Done("b", 11.0, 12.5, 1, 1)], end="done", ended=13.0)
    store.put(state_file(killed, 2), ended.to_json())
    store.put(state_file(killed, 3), State(3, "host-3", 12.0, done=[Done("c", 13.0, 14.0, 1, 1)]).to_json())
    store.put(state_file(killed, 4), State(4, "host-4", 11.0).to_json())
    report, made = in_parts(job, parts=2)
    own, night = min(made.states), timeline.read(store, report.run_id)
    assert own == 5
    shown = [(bar.number, bar.worker, bar.ended, bar.end, len(bar.shards)) for bar in night.bars if bar.number < own]
    ended, lost = [(1, "host-1", 12.0, "done", 0), (2, "host-2", 13.0, "done", 1)], [(3, "host-3", 14.0, "lost", 1)]
    assert sorted(shown) == [*ended, *lost, (4, "host-4", 11.5, "lost", 0)]
    assert (night.numbers().number, night.numbers().lost) == (4 + len(made.states), 2)
    assert lake.contents(tmp_path / "out") == local_contents(tmp_path, job)
    assert leftovers(tmp_path) == []


def test_a_worker_that_comes_back_late_changes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "SILENT_S", 6.0)
    job = waiting_job(tmp_path, milliseconds=40)
    stopped = []

    def stop(site, made):
        wait_for(lambda: made.states.get(1) and made.states[1].current)
        stopped.append(site.running[1])
        os.kill(site.running[1].pid, signal.SIGSTOP)
        # It stays in the table of processes and says nothing.
        del site.running[1]

    try:
        report, made = in_parts(job, during=stop, parts=2)
        assert "has said nothing for 6 s" in made.lost[1]
        published = lake.contents(tmp_path / "out")
        stopped[0].send_signal(signal.SIGCONT)
        stopped[0].wait(60)
    finally:
        for each in stopped:
            each.kill()
    assert report.rows_out == FILES * ROWS
    assert lake.contents(tmp_path / "out") == published == local_contents(tmp_path, job)
    assert [path for path in leftovers(tmp_path) if "staged" in path.parts] == []


def test_a_shard_that_fails_ends_the_run_with_the_error_of_its_worker(tmp_path):
    job = waiting_job(tmp_path)

    def change(board, site, made):
        file = next((tmp_path / "lake").rglob("part-3.parquet"))
        os.utime(file, (1, 1))

    with pytest.raises(SourceError, match="has changed since the run was planned"):
        in_parts(job, before=change)


def test_a_worker_with_other_versions_refuses_with_the_difference(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.parts.dispatch.REFUSED_S", 0.1)
    monkeypatch.setattr("jobs.parts.check.versions", lambda: {"torch": "1.0", "nightscribe": "0.0.1 (abc)"})
    with pytest.raises(UnfitWorker, match=OTHER_VERSIONS):
        in_parts(waiting_job(tmp_path))


def test_a_worker_that_does_not_see_the_lake_refuses(tmp_path, monkeypatch):
    monkeypatch.setattr("jobs.parts.dispatch.REFUSED_S", 0.1)
    job = waiting_job(tmp_path)

    def unmount(board, site, made):
        (tmp_path / "lake").rename(tmp_path / "elsewhere")

    with pytest.raises(UnfitWorker, match=r"does not see the source, such as '.*parquet'; mount the lake"):
        in_parts(job, before=unmount)


def test_a_shard_whose_workers_always_die_ends_the_run_with_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "MAX_LOST", 2)
    job = waiting_job(tmp_path, milliseconds=200)

    def kill_all(site, made):
        while True:
            for number, state in list(made.states.items()):
                if state.current and number in site.running:
                    site.kill(number)
            time.sleep(0.05)

    with pytest.raises(RunError, match=r"of 'lang=\w+/part-\d\.parquet' was begun 2 times, .* exit code -9"):
        in_parts(job, workers=1, during=kill_all)


def old_part(job):
    """Execute a part of a run whose lease the next run, which holds the sink now, has taken over."""
    with run.holding(run.prepare(job)) as held:
        board = Board(held.sink.store, held.plan)
        board.write(1, held.plan.shards_todo)
        plan = held.plan
    return lambda: worker.execute_part(held.sink.store.root, plan.run_id, 1)


def test_a_worker_writes_nothing_once_its_run_has_ended(tmp_path):
    state = old_part(waiting_job(tmp_path))()
    assert (state.end, state.error, state.done) == ("stopped", "SinkBusy", [])
    assert "has ended" in state.message
    assert [path for path in leftovers(tmp_path) if "staged" in path.parts] == []


def test_a_worker_writes_nothing_once_a_newer_run_holds_the_sink(tmp_path):
    job = waiting_job(tmp_path)
    execute = old_part(job)
    with run.holding(run.prepare(job)):
        state = execute()
    assert (state.end, state.error, state.done) == ("stopped", "SinkBusy", [])
    assert "taken over by another run" in state.message
    assert [path for path in leftovers(tmp_path) if "staged" in path.parts] == []
