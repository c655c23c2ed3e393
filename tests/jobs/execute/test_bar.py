"""Progress says how many rows there will be, exactly or about, and how long they will take."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.execute import bar
from jobs.execute.progress import Progress
from jobs.plan import planning
from tests import lake


def made(tmp_path, models, **source):
    return planning.make(spec.parse(lake.job({"path": str(tmp_path / "in"), **source}, tmp_path / "out", models)))


@pytest.fixture
def files(tmp_path):
    (tmp_path / "in").mkdir()
    pq.write_table(lake.rows(100), tmp_path / "in" / "a.parquet")
    return tmp_path / "in"


def test_the_number_of_rows_is_exact_if_the_format_has_it(tmp_path, models, files):
    line = bar.line(made(tmp_path, models), Progress(rows_in=50, rows_rejected=2, shards=0), seconds=5.0)
    assert line == "test: 50 of 100 rows, 10 rows/s, 00:05 left, 0 shards, 2 rejected"


def test_the_number_of_rows_of_a_text_file_is_estimated_from_its_head(tmp_path, models, files):
    rows = lake.rows(300, start=100)
    (files / "b.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows.to_pylist()))
    pa.csv.write_csv(lake.rows(200, start=500), files / "c.csv")
    plan = made(tmp_path, models)
    assert plan.rows_todo is None
    assert plan.rows_expected == pytest.approx(600, abs=20)
    assert " of about 6" in bar.line(plan, Progress(rows_in=50), seconds=5.0)


def test_the_number_of_rows_after_a_condition_is_unknown_before_reading(tmp_path, models, files):
    plan = made(tmp_path, models, where="stars = 1")
    assert plan.rows_expected is None
    assert bar.line(plan, Progress(rows_in=50), seconds=5.0) == "test: 50 rows, 10 rows/s, 0 shards, 0 rejected"
