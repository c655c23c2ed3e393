"""When a job is measured, what is kept of it, and that short jobs compute what they always did."""

import json
import logging
from dataclasses import replace

import pytest

from jobs import run, spec
from jobs.execute import cores
from jobs.execute.stop import StopToken
from jobs.models import calibration
from jobs.models.calibration import Kept
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.plan.task import TaskPlan
from jobs.plan.text import text
from jobs.runners import split
from tests import lake
from transforms.errors import Stopped


@pytest.fixture
def parsed(tmp_path, models, monkeypatch):
    """A job of 400 rows on an idle machine, in a cache of its own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(cores, "idle", lambda: 64.0)
    source = lake.make_lake(tmp_path / "in", files=4, n=100)
    return spec.parse(lake.job(source, tmp_path / "out", models))


@pytest.fixture
def plan(parsed):
    return planning.make(parsed)


@pytest.fixture
def long(plan, monkeypatch):
    """The same as if it took long: the limits are those of a machine on which a second of work is worth measuring."""
    monkeypatch.setattr(calibration, "FEW_CHARACTERS", 1)
    monkeypatch.setattr(calibration, "FEW_IN_PROCESSES", 1)
    monkeypatch.setattr(calibration, "WORTH_S", 0.0)
    monkeypatch.setattr(calibration, "SHARE", 1e6)
    monkeypatch.setattr(calibration, "MOST_S", 1.0)
    return plan


def settle(plan, models=None):
    settled, lines = calibration.settle(plan, plan.shards_todo, models or ModelPool())
    return settled, "; ".join(lines)


def keep(plan, budget=2048, complete=True, allowed_s=8.0, threads=None):
    """Keep a calibration as if it had been measured."""
    kept = Kept(budget, {1024: 1000.0, budget: 1500.0}, complete, allowed_s, threads)
    calibration.measured.keep(calibration._file(plan, plan.tasks[0]), calibration._FORM.dump_json(kept))


def not_measured(monkeypatch):
    from transforms import calibration as measuring

    monkeypatch.setattr(measuring, "measure", lambda *_: pytest.fail("a model was measured"))


def test_a_short_job_loads_no_model_and_has_the_default(plan):
    models = ModelPool()
    settled, lines = settle(plan, models)
    assert settled == plan
    assert lines == "sentiment: batches of 1,024 tokens, the default"
    assert models.loaded == {}


def test_a_long_job_is_measured_and_later_runs_take_what_it_has_kept(long, monkeypatch):
    models = ModelPool()
    settled, lines = settle(long, models)
    budget = settled.tasks[0].budget
    assert budget in (512, 1024, 2048, 4096, 8192)
    assert lines.startswith(f"sentiment: batches of {budget:,} tokens, measured now")
    assert len(models.loaded) == 1, "the run uses the model that was loaded for this"
    assert models.annotator(settled.tasks[0]).annotator.max_tokens == budget
    not_measured(monkeypatch)
    again, lines = settle(long)
    assert again == settled
    assert lines.startswith(f"sentiment: batches of {budget:,} tokens, measured before")


def test_a_short_job_takes_what_a_long_one_has_kept(plan):
    keep(plan)
    models = ModelPool()
    settled, lines = settle(plan, models)
    assert settled.tasks[0].budget == 2048
    assert lines == "sentiment: batches of 2,048 tokens, measured before, 1.50 times the speed of 1,024"
    assert models.loaded == {}


def test_max_tokens_of_the_job_is_used_before_what_is_kept(long, monkeypatch):
    keep(long)
    not_measured(monkeypatch)
    task = long.tasks[0]
    pinned = replace(task, spec=task.spec.model_copy(update={"max_tokens": 256}))
    settled, lines = settle(replace(long, tasks=(pinned,)))
    assert settled.tasks[0].max_tokens == 256
    assert settled.tasks[0].budget is None
    assert lines == "sentiment: batches of 256 tokens, tasks[].max_tokens"


def test_a_busy_machine_is_not_measured_and_nothing_is_kept(long, monkeypatch):
    monkeypatch.setattr(cores, "idle", lambda: 0.1)
    assert settle(long)[0].tasks[0].budget is None
    assert not calibration._file(long, long.tasks[0]).exists()


def test_rows_that_may_have_results_already_are_not_measured(long, monkeypatch):
    not_measured(monkeypatch)
    assert settle(replace(long, donors=("x",)))[0].tasks[0].budget is None
    assert settle(replace(long, attempts={}))[0].tasks[0].budget is None


def test_a_longer_job_measures_again_what_a_shorter_one_had_no_time_for(long, monkeypatch):
    monkeypatch.setattr(calibration, "MOST_S", 2.0)
    keep(long, complete=False, allowed_s=1.5)
    assert "measured before" in settle(long)[1], "it allows less than twice the seconds"
    keep(long, complete=False, allowed_s=0.5)
    assert "measured now" in settle(long)[1]
    keep(long, complete=False, allowed_s=2.0)
    not_measured(monkeypatch)
    assert "measured before" in settle(long)[1], "no job allows more"


def test_what_was_measured_for_another_dtype_machine_or_instructions_does_not_count(plan, monkeypatch):
    keep(plan)
    assert calibration.known(plan)[0].tasks[0].budget == 2048
    other = replace(plan, tasks=(replace(plan.tasks[0], dtype="bfloat16"),))
    assert calibration.known(other)[0].tasks[0].budget is None
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert calibration.known(plan)[0].tasks[0].budget is None
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr(cores, "available", lambda: 97)
    assert calibration.known(plan)[0].tasks[0].budget is None


def test_a_damaged_file_counts_as_none_and_is_measured_again(long):
    keep(long)
    file = calibration._file(long, long.tasks[0])
    file.write_text('{"budget": "many"')
    assert calibration.known(long)[0].tasks[0].budget is None
    settle(long)
    assert json.loads(file.read_text())["budget"] in (512, 1024, 2048, 4096, 8192)


def test_a_cache_that_cannot_be_written_fails_no_run(long, tmp_path, monkeypatch, caplog):
    (tmp_path / "cache").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING):
        settled, _ = settle(long)
    assert settled.tasks[0].budget is not None
    assert "cannot be written, so it is measured again in the next run" in caplog.text


def test_a_row_that_breaks_a_task_is_left_to_the_run(long, monkeypatch):
    class Broken(ModelPool):
        def annotator(self, task):
            raise RuntimeError("no such weights")

    assert settle(long, Broken())[0] == long


def test_a_stop_ends_the_calibration(long, monkeypatch, tmp_path):
    stop = StopToken(str(tmp_path / "stop"))
    monkeypatch.setattr(cores, "idle", lambda: stop.set() or 64.0)
    with pytest.raises(Stopped):
        calibration.settle(long, long.shards_todo, ModelPool(), stop)


def test_models_of_a_job_in_several_processes_are_released_after_the_measurement(long):
    runner = long.spec.runner.model_copy(update={"workers": 2})
    models = ModelPool()
    settled, _ = settle(replace(long, spec=long.spec.model_copy(update={"runner": runner})), models)
    assert settled.tasks[0].budget is not None
    assert models.loaded == {}


def test_threads_are_measured_where_a_core_runs_two_and_the_job_does_not_say(plan, monkeypatch):
    """This machine may have no such cores: their numbers are faked."""
    monkeypatch.setattr(cores, "available", lambda: 8)
    monkeypatch.setattr(cores, "physical", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert calibration._candidates(plan.tasks[0], 4) == [4, 8]
    assert calibration._candidates(replace(plan.tasks[0], device="cuda"), 4) == [4]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert calibration._candidates(plan.tasks[0], 3) == [3]
    monkeypatch.delenv("OMP_NUM_THREADS")
    monkeypatch.setattr(cores, "available", lambda: 2)
    assert calibration._candidates(plan.tasks[0], 1) == [1]


def test_the_faster_number_of_threads_is_that_of_the_plan(long, monkeypatch):
    monkeypatch.setattr(cores, "available", lambda: 4)
    monkeypatch.setattr(cores, "physical", lambda: 1)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    # Enough on a busy machine too.
    monkeypatch.setattr(calibration, "MOST_S", 30.0)
    settled, lines = settle(long)
    assert settled.threads in (1, 2, 4)
    assert f"{settled.threads} threads" in lines


def test_divisions_are_measured_with_the_budget_and_threads_of_the_plan(plan):
    keep(plan, threads=1)
    settled, _ = settle(plan)
    assert settled.threads == 1
    assert split._file(settled) != split._file(plan)
    assert str(split.Split(2, "measured", cores=8)) == "2 processes with 4 threads each: measured"


def test_the_report_and_the_plan_say_which_batches_were_used(parsed, plan):
    assert "batches" not in text(plan)
    keep(plan)
    assert "batches        sentiment: batches of 2,048 tokens, measured before" in text(plan)
    report = run.run(parsed)
    assert report.batches == "sentiment: batches of 2,048 tokens, measured before, 1.50 times the speed of 1,024"


def test_a_rerun_with_the_kept_budget_gives_the_same_bytes(parsed, plan, tmp_path):
    keep(plan)
    run.run(parsed)
    other = parsed.model_copy(update={"sink": parsed.sink.model_copy(update={"path": str(tmp_path / "again")})})
    run.run(other)
    first, second = (lake.contents(tmp_path / name) for name in ("out", "again"))
    assert first == second
    keep(plan, budget=64)
    narrow = parsed.model_copy(update={"sink": parsed.sink.model_copy(update={"path": str(tmp_path / "narrow")})})
    run.run(narrow)
    wide, thin = (lake.read(tmp_path / name) for name in ("out", "narrow"))
    labels = [table["sentiment"].combine_chunks().field("label") for table in (wide, thin)]
    assert labels[0].equals(labels[1])
    assert thin.drop_columns("sentiment").equals(wide.drop_columns("sentiment"))


def test_what_was_measured_for_one_process_does_not_count_for_several(plan):
    keep(plan)
    runner = plan.spec.runner.model_copy(update={"workers": 2})
    several = replace(plan, spec=plan.spec.model_copy(update={"runner": runner}))
    assert calibration.known(several)[0].tasks[0].budget is None
    keep(several, budget=512)
    assert [calibration.known(each)[0].tasks[0].budget for each in (plan, several)] == [2048, 512]


def test_a_task_that_a_smaller_model_answers_for_is_not_measured(long, monkeypatch):
    not_measured(monkeypatch)
    monkeypatch.setattr(TaskPlan, "is_cascade", True)
    assert settle(long)[0].tasks[0].budget is None


def test_a_measurement_that_breaks_is_told_with_its_kind(long, monkeypatch, caplog):
    def broken(self, task):
        raise KeyError("weights")

    monkeypatch.setattr(ModelPool, "annotator", broken)
    with caplog.at_level(logging.WARNING):
        assert settle(long)[0].tasks[0].budget is None
    assert "could not be measured: KeyError: 'weights'" in caplog.text
