"""Rows are drawn from all rows to do with the same probability, whether or not their number is known."""

import collections

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy import stats

from jobs import spec
from jobs.cascade.pending import Pending
from jobs.cascade.sample import draw
from jobs.plan import planning


@pytest.fixture
def pending_of(tmp_path, noop_task):
    """(keys of the source) -> the rows of a plan over files of 200, 90 and 10 rows, the largest in shards."""
    (tmp_path / "in").mkdir()
    for name, start, rows in (("a", 0, 200), ("b", 200, 90), ("c", 290, 10)):
        ids = np.arange(start, start + rows)
        table = pa.table({"id": ids, "text": [f"text {i}" for i in ids]})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet", row_group_size=20)

    def make(**source):
        content = {"name": "sample", "source": {"path": str(tmp_path / "in"), **source}}
        content |= {
            "tasks": [{"task": "noop", "column": "text", "into": "found"}],
            "sink": {"path": str(tmp_path / "out")},
        }
        plan = planning.make(spec.parse(content))
        return Pending(plan, plan.tasks[0])

    return make


@pytest.mark.parametrize("source", [{}, {"where": "id >= 0"}], ids=["known", "unknown"])
def test_every_row_is_drawn_equally_often_and_none_twice_and_in_any_order(pending_of, source):
    pending = pending_of(**source)
    assert (pending.most is None) == bool(source)
    counts, firsts = collections.Counter(), []
    for seed in range(30):
        drawn = draw(pending, 100, seed)
        ids = drawn.rows["id"].to_pylist()
        assert (len(ids), len(set(ids)), drawn.total) == (100, 100, 300)
        counts.update(ids)
        firsts += ids[:5]
    assert stats.chisquare([counts[i] for i in range(300)]).pvalue > 1e-4
    # The first rows of a draw are a draw too.
    assert stats.kstest(np.array(firsts) / 300, "uniform").pvalue > 1e-4


def test_the_same_plan_and_seed_give_the_same_rows(pending_of):
    pending = pending_of()
    assert draw(pending, 30, 5).rows == draw(pending, 30, 5).rows
    assert draw(pending, 30, 5).rows != draw(pending, 30, 6).rows


def test_a_draw_of_more_rows_than_there_are_gives_all_of_them(pending_of):
    for source in ({}, {"where": "id < 100"}):
        drawn = draw(pending_of(**source), 1_000, 0)
        assert sorted(drawn.rows["id"].to_pylist()) == list(range(drawn.total))


def test_a_limited_source_is_sampled_within_its_limit(pending_of):
    drawn = draw(pending_of(limit=50), 40, 0)
    assert (len(drawn.rows), drawn.total) == (40, 50)
    assert max(drawn.rows["id"].to_pylist()) < 50
