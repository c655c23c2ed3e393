"""A pool loads each model once, whatever the batches of its task are."""

from dataclasses import replace

import pyarrow as pa
import pytest

from jobs import spec
from jobs.models.pool import ModelPool
from jobs.plan import Plan, planning
from tests import lake, tiny

BATCH = pa.record_batch({"text": tiny.texts(30), "id": [str(i) for i in range(30)]})


@pytest.fixture
def task(tmp_path, models):
    """The classify task of a planned job."""
    source = lake.make_lake(tmp_path / "in", files=1, n=20)
    return planning.make(spec.parse(lake.job(source, tmp_path / "out", models))).tasks[0]


def test_a_model_is_not_loaded_again_for_another_budget(task):
    pool = ModelPool()
    before = pool.annotator(task)
    assert before.annotator.max_tokens == 1024
    after = pool.annotator(replace(task, budget=64))
    assert after is before
    assert len(pool.loaded) == 1
    assert after.annotator.max_tokens == 64


def test_a_model_is_loaded_with_the_budget_of_its_task(task):
    assert ModelPool().annotator(replace(task, budget=128)).annotator.max_tokens == 128


def test_max_tokens_of_the_job_is_used_before_the_budget(task):
    pinned = replace(task, spec=task.spec.model_copy(update={"max_tokens": 96}), budget=2048)
    pool = ModelPool()
    assert pool.annotator(pinned).annotator.max_tokens == 96
    assert pool.annotator(pinned).annotator.max_tokens == 96


def test_the_budget_changes_how_many_positions_are_computed(task):
    """One text a batch has no padding."""
    pool = ModelPool()
    wide = pool.annotator(task)(BATCH)
    narrow = pool.annotator(replace(task, budget=1))(BATCH)
    assert narrow.padded_tokens == narrow.tokens == wide.tokens < wide.padded_tokens
    assert narrow.values.field("label").equals(wide.values.field("label"))


def test_a_plan_with_a_budget_and_threads_survives_its_file(tmp_path, models):
    source = lake.make_lake(tmp_path / "in", files=1, n=20)
    plan = planning.make(spec.parse(lake.job(source, tmp_path / "out", models)))
    chosen = replace(plan, tasks=(replace(plan.tasks[0], budget=2048),), threads=4)
    again = Plan.from_json(chosen.to_json())
    assert again.tasks[0].budget == again.tasks[0].max_tokens == 2048
    assert again.threads == 4
    assert again.fingerprint == plan.fingerprint
