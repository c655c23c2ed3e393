"""How `runner.workers: auto` divides a machine; trials are real processes with tiny models."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from jobs import run, spec
from jobs.execute import cores
from jobs.execute.stop import StopToken
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.runners import split, trial
from jobs.runners.trial import Speeds
from tests import lake
from transforms.errors import Stopped


@pytest.fixture
def plan(tmp_path, models, monkeypatch):
    """A plan of four shards of 100 rows, on four cores that nothing else uses."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cores, "available", lambda: 4)
    monkeypatch.setattr(cores, "idle", lambda: 4.0)
    monkeypatch.setattr(cores, "memory", lambda: 64 << 30)
    source = lake.make_lake(tmp_path / "in", files=4, n=100)
    return planning.make(spec.parse(lake.job(source, tmp_path / "out", models)))


@pytest.fixture
def large(plan, monkeypatch):
    """The same, as if it took an hour on one process."""
    monkeypatch.setattr(split, "_weight", lambda plan, rows: 3600.0 * 1000)
    return plan


def keep(plan, by_workers, start_s=10.0, memory=1 << 30):
    """Keep speeds as if they had been measured."""
    split._write(plan, Speeds(by_workers, start_s, memory))


def chosen(plan, todo=None):
    return split.choose(plan, plan.shards_todo if todo is None else todo, ModelPool())


def with_runner(plan, **runner):
    return replace(plan, spec=plan.spec.model_copy(update={"runner": plan.spec.runner.model_copy(update=runner)}))


def test_the_fastest_division_is_chosen_from_what_was_measured_before(large):
    keep(large, {1: 1000.0, 2: 1500.0, 4: 1400.0})
    assert str(chosen(large)) == (
        "2 processes with 2 threads each: about 1.49 times the speed of one, measured on this machine"
    )
    assert split.expected(large) == str(chosen(large))
    assert split.workers_of(large) == 2


def test_one_process_stays_if_others_are_hardly_faster(large):
    keep(large, {1: 1000.0, 2: 1040.0, 4: 700.0})
    assert str(chosen(large)) == "1 process: 2 have 1.04 times its speed, measured on this machine"


def test_the_time_that_processes_take_to_start_counts(plan, monkeypatch):
    keep(plan, {1: 1000.0, 2: 1500.0}, start_s=40.0)
    monkeypatch.setattr(split, "_weight", lambda plan, rows: 70.0 * 1000)
    assert chosen(plan).workers == 1
    monkeypatch.setattr(split, "_weight", lambda plan, rows: 700.0 * 1000)
    assert chosen(plan).workers == 2


def test_shards_of_unequal_size_count(large):
    """One of the four has half of the rows: with more than two processes some would wait."""
    shards = [replace(shard, rows=rows) for shard, rows in zip(large.shards, (100, 100, 100, 300), strict=True)]
    assert split.largest_first(shards)[0].rows == 300
    keep(large, {1: 1000.0, 2: 1900.0, 4: 2100.0})
    assert chosen(large).workers == 4
    assert chosen(large, shards).workers == 2


def test_copies_that_do_not_fit_into_memory_are_not_chosen(large, monkeypatch):
    keep(large, {1: 1000.0, 2: 1500.0, 4: 2000.0}, memory=4 << 30)
    assert chosen(large).workers == 4
    monkeypatch.setattr(cores, "memory", lambda: 12 << 30)
    assert chosen(large).workers == 2
    monkeypatch.setattr(cores, "memory", lambda: 6 << 30)
    assert str(chosen(large)) == "1 process: memory or shards are too few for more"


def test_no_model_is_loaded_for_a_job_that_is_clearly_one_process(plan, monkeypatch):
    monkeypatch.setattr(trial, "speed", lambda *_: pytest.fail("a model was tried"))
    assert chosen(plan, plan.shards_todo[:1]).why == "1 shard to do"
    assert chosen(plan, plan.shards_todo[:2]).why == "200 rows to do"
    assert chosen(replace(plan, donors=("x",))).why == "it is not known how many rows have to be computed"
    assert chosen(with_runner(plan, workers=3)) == split.Split(3, "runner.workers")
    monkeypatch.setattr(cores, "available", lambda: 1)
    assert chosen(plan).why == "1 core"


def test_a_small_job_is_timed_once_and_stays_one_process(plan, monkeypatch):
    pool = ModelPool()
    small = split.choose(plan, plan.shards_todo, pool)
    assert small.workers == 1
    assert "s of work, and several processes take that long to start" in small.why
    assert len(pool.loaded) == 1, "the run uses the model that was loaded for this"
    monkeypatch.setattr(trial, "speed", lambda *_: pytest.fail("a model was tried again"))
    assert chosen(plan).workers == 1


def test_a_busy_machine_is_not_measured(plan, monkeypatch):
    monkeypatch.setattr(split, "WORTH_S", 0.0)
    monkeypatch.setattr(cores, "idle", lambda: 1.0)
    monkeypatch.setattr(trial, "several", lambda *_: pytest.fail("processes were tried"))
    assert chosen(plan).why.startswith("other programs use the cores")
    assert split._read(plan) is None


def test_divisions_are_measured_by_real_processes_and_kept(plan, monkeypatch):
    monkeypatch.setattr(cores, "available", lambda: 2)
    monkeypatch.setattr(split, "WORTH_S", 0.0)
    monkeypatch.setattr(trial, "TRIAL_S", 0.2)
    found = chosen(plan)
    kept = split._read(plan)
    assert sorted(kept.by_workers) == [1, 2]
    assert all(speed > 0 for speed in kept.by_workers.values())
    assert kept.memory > 50 << 20
    assert found.why.endswith("measured on this machine")
    monkeypatch.setattr(trial, "several", lambda *_: pytest.fail("measured again"))
    assert chosen(plan).workers in (1, 2)


def test_what_was_measured_for_other_cores_or_another_dtype_does_not_count(plan, monkeypatch):
    keep(plan, {1: 1.0})
    assert split._read(plan) is not None
    task = replace(plan.tasks[0], dtype="bfloat16")
    assert split._read(replace(plan, tasks=(task,))) is None
    monkeypatch.setattr(cores, "available", lambda: 8)
    assert split._read(plan) is None


def test_a_damaged_file_is_measured_again(plan):
    keep(plan, {1: 1.0})
    split._file(plan).write_text("{")
    assert split._read(plan) is None


def test_a_stop_ends_the_trials(plan, monkeypatch, tmp_path):
    monkeypatch.setattr(split, "WORTH_S", 0.0)
    stop = StopToken(str(tmp_path / "stop"))
    monkeypatch.setattr(cores, "idle", lambda: stop.set() or 4.0)
    with pytest.raises(Stopped):
        split.choose(plan, plan.shards_todo, ModelPool(), stop)


def test_a_failed_trial_leaves_the_run_one_process(plan, monkeypatch):
    monkeypatch.setattr(split, "WORTH_S", 0.0)
    monkeypatch.setattr(trial, "_started", lambda *_: (_ for _ in ()).throw(OSError("no processes left")))
    assert chosen(plan) == split.Split(1, "other divisions could not be measured")


def test_a_file_that_cannot_be_read_is_left_to_the_run(plan):
    keep(plan, {1: 1000.0, 2: 1500.0})
    Path(plan.shards[0].file).unlink()
    assert split.expected(plan) == "auto: measured when the run starts"
    assert chosen(plan) == split.Split(1, "other divisions could not be measured")


def test_one_process_a_gpu_each_with_its_own_device(plan, monkeypatch):
    """No GPU here: their number is faked where the machine is asked for it, and no model is loaded on one."""
    monkeypatch.setattr(cores, "gpus", lambda: 3)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    on_gpu = replace(plan, tasks=(replace(plan.tasks[0], device="cuda"),))
    assert str(chosen(on_gpu)) == "3 processes with 1 thread each: one for each of 3 GPUs"
    assert [own["CUDA_VISIBLE_DEVICES"] for own in split.environments(with_runner(on_gpu, workers=3))] == [
        "0",
        "1",
        "2",
    ]
    assert split.environments(with_runner(plan, workers=2)) == [{}, {}]
    by_number = replace(plan, tasks=(replace(plan.tasks[0], device="cuda:1"),))
    assert chosen(by_number).workers == 1
    monkeypatch.setattr(cores, "gpus", lambda: 1)
    assert chosen(on_gpu).workers == 1


def test_a_run_with_two_processes_says_so_in_the_report(tmp_path, models, monkeypatch):
    """The speeds are those of a cache, so that nothing depends on the machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cores, "available", lambda: 2)
    source = lake.make_lake(tmp_path / "in", files=4, n=100)
    parsed = spec.parse(lake.job(source, tmp_path / "out", models))
    keep(planning.make(parsed), {1: 1.0, 2: 2.0})
    report = run.run(parsed)
    assert report.split.startswith("2 processes with 1 thread each: about 2.00 times the speed of one")
    (kept,) = (tmp_path / "out").rglob("reports/*.json")
    assert json.loads(kept.read_text())["split"] == report.split
    assert len(lake.read(tmp_path / "out")) == 400
