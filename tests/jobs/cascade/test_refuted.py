"""Thresholds that rows of a run refute: the smaller model stops, and the next run measures anew."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs import run, spec
from jobs.cascade import kept, measure
from jobs.models.pool import ModelPool
from jobs.plan import planning
from jobs.sink import open_sink
from jobs.store import Store
from tests import cascades
from tests.lake import execute


def drifted(tmp_path, models, pairs, content, n=200):
    """A file of texts on which the smaller model is sure, and both models disagree."""
    table = cascades.rows(6000, seed=40)
    pool, task = ModelPool(), planning._chosen(planning.make(spec.parse(content)), True).tasks[0]
    large, small = (pool.annotator(each) for each in task.each)
    batch = table.combine_chunks().to_batches()[0]
    first, second = small(batch), large(batch)
    same = large.annotator.same(first.values, second.values)
    chosen = np.flatnonzero((first.confidence >= task.first.threshold) & ~same)[:n]
    file = tmp_path / "in" / "drifted.parquet"
    pq.write_table(table.take(pa.array(chosen)), file, row_group_size=20)
    cascades.at_a_fixed_time(file)
    return len(chosen)


def test_drifted_rows_stop_the_smaller_model_and_the_next_run_measures_anew(tmp_path, models, pairs, made, monkeypatch):
    monkeypatch.setattr(measure, "LEAST_CHECKED", 0.3)
    monkeypatch.setattr(measure, "MOST_CHECKED", 0.3)
    execute(made)
    before = cascades.measured(made)
    rows = drifted(tmp_path, models, pairs, made)
    assert rows > 100
    monkeypatch.setattr(planning, "CHUNK_ROWS", planning.CHUNK_ROWS | {"cpu": 10})
    report = execute(made)
    found = report.first["found"]
    assert found.refuted
    assert 0 < found.answered < rows / 2
    assert found.agreed == 0
    # The rows after those that were seen have the values of the large model.
    assert cascades.measured(made) is None
    monkeypatch.undo()
    again = execute(made)
    assert (again.rows_in, again.shards_skipped) == (400 + rows, 0)
    after = kept.last(Store(str(tmp_path / "out")), planning.make(spec.parse(made)).tasks[0].first.key)
    assert (after.number, before.number) == (1, 0)
    assert after.seed != before.seed


def test_a_threshold_that_is_refuted_again_and_again_is_given_up(tmp_path, made):
    store, key = Store(str(tmp_path / "out")), planning.make(spec.parse(made)).tasks[0].first.key
    for number in range(measure.MEASUREMENTS):
        assert execute(made).rows_in == 400
        assert cascades.measured(made).number == number
        kept.refute(store, cascades.measured(made).seed, kept.Refuted(40, 20))
    report = execute(made)
    assert (report.rows_in, report.first["found"].answered) == (400, 0)
    assert (
        cascades.measured(made).why
        == "not used, because rows of runs have refuted 3 measured thresholds; give another model"
    )
    assert cascades.values(tmp_path / "out") == cascades.alone(made, tmp_path / "large")
    assert execute(made).rows_in == 0
    assert kept.last(store, key).threshold is None


def test_a_threshold_that_another_process_has_refuted_is_not_used_any_more(tmp_path, made):
    execute(made)
    found = cascades.measured(made)
    cascades.write(tmp_path / "in", n=30, files=1, seed=9)
    with run.holding(run.prepare(spec.parse(made))) as held:
        kept.refute(open_sink(held.plan.spec.sink).store, found.seed, kept.Refuted(40, 20))
        run.execute(held)
        report = run.finish(held)
    # The first chunk of a shard is computed before the look.
    assert report.first["found"].refuted
    assert held.models.watch(held.plan.tasks[0]).is_over


def test_finished_rows_are_kept_after_a_stop_if_the_job_says_so(tmp_path, made):
    content = made | {"sink": {"path": str(tmp_path / "out"), "on_model_change": "keep"}}
    execute(content)
    kept.refute(Store(str(tmp_path / "out")), cascades.measured(content).seed, kept.Refuted(40, 20))
    cascades.write(tmp_path / "in", n=400, files=1, seed=9)
    report = execute(content)
    assert (report.rows_in, report.shards_skipped) == (400, 2)
    assert cascades.measured(content).number == 1
