"""One function executes a shard: columns that stand in its older part file are read from there, and a stop is heard."""

import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.execute import shard as shards
from jobs.execute import stop
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.sink import open_sink
from tests import lake
from tests.lake import execute
from transforms.errors import Stopped


class Counting(ModelPool):
    """A pool that remembers which columns it was asked for."""

    def __init__(self):
        super().__init__()
        self.asked = []

    def annotator(self, task):
        self.asked.append(task.spec.into)
        return super().annotator(task)


def execute_counting(content):
    """Run a job shard by shard; the columns that were computed."""
    with run.holding(run.prepare(spec.parse(content))) as held:
        pool = Counting()
        for shard in held.plan.shards_todo:
            shards.execute_shard(held.plan, shard, pool, held.sink)
        run.finish(held)
    return set(pool.asked)


@pytest.fixture
def content(tmp_path, models):
    return lake.job(lake.make_lake(tmp_path / "in", files=2), tmp_path / "out", models)


def test_a_job_that_gains_a_task_computes_the_new_column_only(tmp_path, models, content):
    execute(content)
    before = lake.read(tmp_path / "out")
    content["tasks"].append(
        {"task": "ner", "column": "text", "model": str(models / "ner"), "into": "entities", "dtype": "float32"}
    )
    assert execute_counting(content) == {"entities"}
    after = lake.read(tmp_path / "out")
    assert after.select(before.column_names).equals(before)
    fresh = content | {"sink": {"path": str(tmp_path / "fresh")}}
    execute(fresh)
    assert after.equals(lake.read(tmp_path / "fresh"))


def test_a_changed_task_leaves_the_others_as_they_are(tmp_path, models, content):
    content["tasks"].append(content["tasks"][0] | {"into": "second"})
    execute(content)
    content["tasks"][1]["top_k"] = 2
    assert execute_counting(content) == {"second"}


def test_a_renamed_column_is_not_computed_again(tmp_path, models, content):
    execute(content)
    before = lake.read(tmp_path / "out")["sentiment"]
    content["tasks"][0]["into"] = "mood"
    assert execute_counting(content) == set()
    assert lake.read(tmp_path / "out")["mood"].equals(before)


def test_vectors_that_parquet_holds_as_lists_are_reused(tmp_path, models, content):
    content["tasks"] = [{"task": "embed", "column": "text", "model": str(models / "mlm"), "into": "vector"}]
    execute(content)
    before = lake.read(tmp_path / "out")["vector"]
    content["tasks"].append(lake.job("in", tmp_path / "out", models)["tasks"][0])
    assert execute_counting(content) == {"sentiment"}
    assert lake.read(tmp_path / "out")["vector"].equals(before)


def test_a_changed_file_is_computed_whole(tmp_path, models, content):
    execute(content)
    pq.write_table(lake.rows(33, start=1000), tmp_path / "in" / "lang=de" / "part-0.parquet")
    assert execute_counting(content) == {"sentiment"}
    assert len(lake.read(tmp_path / "out")) == 93


def test_a_shard_that_another_worker_has_finished_is_skipped(tmp_path, models, content):
    plan = planning.make(spec.parse(content))
    execute(content)
    pool = Counting()
    entry = shards.execute_shard(plan, plan.shards[0], pool, open_sink(plan.spec.sink))
    assert entry.rows_out == 60
    assert pool.asked == []


def test_a_stop_takes_effect_between_two_chunks_and_leaves_no_partial_file(tmp_path, models, content):
    with stop.on_signals() as token, run.holding(run.prepare(spec.parse(content)), token) as held:
        token.set()
        with pytest.raises(Stopped, match="asked to stop"):
            run.execute(held)
    assert lake.parts(tmp_path / "out") == []
    assert execute(content).rows_out == 120


def test_a_second_attempt_executes_what_the_first_did_not_finish(tmp_path, models, content):
    with run.holding(run.prepare(spec.parse(content))) as held:
        shards.execute_shard(held.plan, held.plan.shards[0], ModelPool(), held.sink)
        first = held.sink.entry(held.plan.shards[0].slot)
        run.execute(held)
        assert held.sink.entry(held.plan.shards[0].slot) == first
        assert run.finish(held).rows_out == 120


def test_the_other_columns_of_a_shard_with_an_unreadable_line_are_reused(tmp_path, models, content):
    (tmp_path / "in" / "more.jsonl").write_text('{"id": "a", "text": "fine", "stars": 1}\n{"id": "b"\n')
    content["errors"] = {"max_fraction": 0.1}
    execute(content)
    content["tasks"].append(content["tasks"][0] | {"into": "second", "top_k": 2})
    assert execute_counting(content) == {"second"}
    assert len(lake.rejected(tmp_path / "out")) == 1
    assert len(lake.read(tmp_path / "out")) == 121
