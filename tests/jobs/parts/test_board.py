"""The files of parts: those of an earlier attempt say nothing, those of a killed run are deleted."""

from __future__ import annotations

from jobs import run
from jobs.parts import Run, State, run_file, state_file
from jobs.parts.board import Board
from jobs.parts.dispatch import Dispatch
from jobs.parts.schedule import Scheduler
from jobs.plan import planning
from jobs.store import Store, names
from tests.part_processes import Processes
from tests.waiting_job import waiting_job


def test_an_attempt_at_the_same_run_has_parts_with_new_numbers_and_ignores_how_the_old_ones_ended(tmp_path):
    plan, store = planning.make(waiting_job(tmp_path)), Store(str(tmp_path / "out"))
    old = State(3, "worker", 1.0, end="failed", error="SourceError", message="an error that is mended")
    store.put(state_file(plan.run_id, 3), old.to_json())
    board = Board(store, plan)
    site = Processes(store.root, plan.run_id, 0)
    made = Dispatch(board, Scheduler(plan.shards, [1.0] * len(plan.shards)), site)
    made._listen(board.states())
    assert made.scheduler.next(0.0, 1).number == 4
    board.forget(3)
    assert board.states() == []


def test_files_of_parts_and_progress_of_a_run_that_was_killed_are_deleted_by_the_next_one(tmp_path):
    job = waiting_job(tmp_path, milliseconds=0)
    store = Store(str(tmp_path / "out"))
    store.put(run_file("killed"), Run("", {}, "").to_json())
    store.put(state_file("killed", 1), State(1, "worker", 1.0).to_json())
    store.put(f"{names.PROGRESS}/killed/host-1.json", b"{}")
    run.run(job)
    assert store.find("", names.PARTS) == store.find("", names.PROGRESS) == []
