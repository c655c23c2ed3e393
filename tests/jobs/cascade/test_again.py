"""`run --only-rejected` in a job to which a smaller model was added after some of its nights."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from tests import cascades, lake
from tests.lake import execute

TEXTS = ["good", "bad", "late", "worse", "fine", "dear"]


@pytest.fixture
def content(tmp_path, models, shout):
    """A job without a smaller model that has run; a task before the classifier has rejected two of six rows."""
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": [f"r{i}" for i in range(len(TEXTS))], "text": TEXTS}), tmp_path / "in/a.parquet")
    content = cascades.job(tmp_path, models / "sentiment", None)
    content["tasks"].insert(0, {"task": shout.task, "column": "text", "into": "loud"})
    content["errors"] = {"max_fraction": 0.5}
    shout.refuse("bad", "worse")
    execute(content)
    shout.taken()
    return content


def with_first(content, small):
    loud, found = content["tasks"]
    first = {"model": str(small), "dtype": "float32", **cascades.EASY}
    return content | {"tasks": [loud, found | {"first": first}]}


def test_rows_rejected_on_nights_without_a_smaller_model_are_tried_again(tmp_path, models, shout, content):
    before = {row["id"]: row["found"] for row in lake.read(tmp_path / "out").to_pylist()}
    content = with_first(content, cascades.like(models / "sentiment", tmp_path / "small"))
    # A night that certifies a threshold, which is part of what its rows are finished under.
    cascades.write(tmp_path / "in")
    assert execute(content).first["found"].answered > 0
    shout.taken()
    shout.refuse("worse")
    report = run.run(spec.parse(content), only_rejected=True)
    assert (report.rows_in, report.rows_reused, report.rows_rejected) == (6, 4, 1)
    assert shout.taken() == ["bad"]
    after = [row for row in lake.read(tmp_path / "out").to_pylist() if row["id"].startswith("r")]
    assert [row["id"] for row in after] == ["r0", "r1", "r2", "r4", "r5"]
    assert all(row["found"]["label"] for row in after)
    assert {row["id"]: row["found"] for row in after if row["id"] in before} == before, "only the retried row is new"
    assert execute(content).rows_in == 0


def test_rejected_rows_of_another_large_model_wait_for_a_run_that_does_everything(tmp_path, models, shout, content):
    other = cascades.like(models / "sentiment", tmp_path / "other", seed=5)
    small = cascades.like(models / "sentiment", tmp_path / "small")
    changed = with_first(content, small)
    changed["tasks"][1]["model"] = str(other)
    shout.refuse()
    assert run.run(spec.parse(changed), only_rejected=True).rows_in == 0
    assert shout.taken() == []
