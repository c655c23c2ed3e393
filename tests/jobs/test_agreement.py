"""Eight bits are taken only where they agree with float32 on the job's own rows, and the report says how much."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import agreement, planning, run, spec
from jobs.plan import Plan
from tests import tiny
from transforms.errors import ModelError


def job(tmp_path, models, **more):
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    pq.write_table(pa.table({"text": [*tiny.texts(150), None, ""]}), source / "rows.parquet")
    task = {"task": "classify", "column": "text", "model": str(models / "sentiment"), "into": "label", "device": "cpu"}
    return spec.parse(
        {
            "name": "rounded",
            "source": {"path": str(source)},
            "tasks": [task | {"dtype": "int8", "min_agreement": 0.5} | more],
            "sink": {"path": str(tmp_path / "sink")},
        }
    )


def test_a_job_in_int8_reports_its_agreement(tmp_path, models):
    report = run.run(job(tmp_path, models))
    assert report.rows_out == 152
    [task] = json.loads((tmp_path / "sink/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    assert task["dtype"] == "int8"
    assert 0.8 < task["agreement"] <= 1.0


def test_it_is_measured_once_and_kept_for_the_nights_to_come(tmp_path, models, monkeypatch):
    parsed = job(tmp_path, models)
    run.run(parsed)
    pq.write_table(pa.table({"text": tiny.texts(20, seed=5)}), tmp_path / "source" / "more.parquet")
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: pytest.fail("measured again"))
    report = run.run(parsed)
    assert (report.rows_out, report.shards_skipped) == (20, 1)
    [task] = json.loads((tmp_path / "sink/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    assert 0.8 < task["agreement"] <= 1.0


def test_too_little_agreement_refuses_the_job_and_writes_no_rows(tmp_path, models, monkeypatch):
    # Agreement is what the model makes it; here every row disagrees.
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: 0.25)
    with pytest.raises(
        ModelError, match=r"tasks.0.dtype is int8, which agrees with float32 on 0.2500 .*min_agreement is 0.5"
    ):
        run.run(job(tmp_path, models))
    assert not list(Path(tmp_path / "sink").glob("*.parquet"))


def test_the_dtype_and_the_engine_are_part_of_the_fingerprint(tmp_path, models):
    exact = planning.make(job(tmp_path, models, dtype="float32"))
    rounded = planning.make(job(tmp_path, models))
    assert exact.fingerprint != rounded.fingerprint
    assert Plan.from_json(rounded.to_json()) == rounded


def test_a_job_in_float32_measures_nothing(tmp_path, models, monkeypatch):
    monkeypatch.setattr(agreement, "SAMPLE_ROWS", None)
    assert agreement.check(planning.make(job(tmp_path, models, dtype="float32"))).tasks[0].agreement is None
