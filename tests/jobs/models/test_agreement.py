"""Eight bits are taken only where they agree with float32 on the job's own rows, and the report says how much."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.models import agreement, pool
from jobs.models.pool import ModelPool
from jobs.plan import Plan, planning
from jobs.store import Store
from tests import tiny
from transforms import model
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


def test_agreement_is_measured_once_and_kept_for_later_runs(tmp_path, models, monkeypatch):
    parsed = job(tmp_path, models)
    run.run(parsed)
    pq.write_table(pa.table({"text": tiny.texts(20, seed=5)}), tmp_path / "source" / "more.parquet")
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: pytest.fail("measured again"))
    report = run.run(parsed)
    assert (report.rows_out, report.shards_skipped) == (20, 1)
    [task] = json.loads((tmp_path / "sink/_nightscribe/reports" / f"{report.run_id}.json").read_text())["tasks"]
    assert 0.8 < task["agreement"] <= 1.0


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"label": null}', '{"another": 1.0}'])
def test_it_is_measured_again_if_the_kept_one_is_damaged(tmp_path, models, monkeypatch, content):
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: 0.9)
    parsed = job(tmp_path, models)
    kept = f"_nightscribe/agreement/{planning.make(parsed).fingerprint.digest}.json"
    store = Store(parsed.sink.path)
    store.put(kept, content.encode())
    assert check(parsed).tasks[0].agreement == 0.9
    assert json.loads(store.get(kept)) == {"label": 0.9}


def test_too_little_agreement_refuses_the_job_and_writes_no_rows(tmp_path, models, monkeypatch):
    # Agreement is what the model makes it; here every row disagrees.
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: 0.25)
    with pytest.raises(
        ModelError, match=r"tasks.0.dtype is int8, which agrees with float32 on 0.2500 .*min_agreement is 0.5"
    ):
        run.run(job(tmp_path, models))
    assert not list(Path(tmp_path / "sink").glob("*.parquet"))


def check(parsed):
    """The plan with its agreement, and nothing executed."""
    return agreement.check(planning.make(parsed), ModelPool(), Store(parsed.sink.path))


def watched(monkeypatch):
    """The rows of each look at the sample, by dtype, and the models that were loaded."""
    looks, loads = [], []
    load, load_model = pool.load, model.load

    def watched_load(task):
        annotator = load(task)
        return lambda batch: looks.append((task.dtype, batch)) or annotator(batch)

    monkeypatch.setattr(pool, "load", watched_load)
    monkeypatch.setattr(model, "load", lambda ref, kind: loads.append(ref.dtype) or load_model(ref, kind))
    return looks, loads


def rows_of(looks):
    return [(dtype, len(batch)) for dtype, batch in looks]


def test_64_rows_are_compared_if_all_of_them_agree(tmp_path, models, monkeypatch):
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: 1.0)
    looks, _ = watched(monkeypatch)
    check(job(tmp_path, models, min_agreement=0.98))
    assert rows_of(looks) == [("float32", 64), ("int8", 64)]


def test_128_rows_are_compared_if_some_of_64_disagree(tmp_path, models, monkeypatch):
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: 0.985)
    looks, _ = watched(monkeypatch)
    plan = check(job(tmp_path, models, min_agreement=0.98))
    assert rows_of(looks) == [("float32", 64), ("int8", 64)] * 2
    assert plan.tasks[0].agreement == 0.985


def test_both_samples_together_give_one_agreement(tmp_path, models, monkeypatch):
    seen = []
    monkeypatch.setattr(agreement, "agreement", lambda exact, rounded: seen.append(len(exact)) or 0.9)
    check(job(tmp_path, models, min_agreement=0.85))
    assert seen == [64, 128]


def test_only_the_beginning_of_a_long_text_is_compared(tmp_path, models, monkeypatch):
    parsed = job(tmp_path, models)
    pq.write_table(pa.table({"text": ["☃x" * 2000]}), tmp_path / "source" / "a-book.parquet")
    looks, _ = watched(monkeypatch)
    check(parsed)
    assert looks[0][1]["text"][0].as_py() == "☃x" * 500


def test_the_run_takes_over_the_model_that_was_measured(tmp_path, models, monkeypatch):
    _, loads = watched(monkeypatch)
    assert run.run(job(tmp_path, models)).rows_out == 152
    assert loads == ["float32", "int8"]


def test_a_run_with_worker_processes_keeps_no_model_in_its_own(tmp_path, models):
    with run.holding(run.prepare(job(tmp_path, models))) as held:
        assert len(held.models.loaded) == 1
    more = spec.parse(job(tmp_path, models).model_dump(exclude_unset=True) | {"runner": {"workers": 2}})
    (tmp_path / "sink/_nightscribe/agreement").rename(tmp_path / "elsewhere")
    with run.holding(run.prepare(more)) as held:
        assert not held.models.loaded


def test_the_dtype_and_the_engine_are_part_of_the_fingerprint(tmp_path, models):
    exact = planning.make(job(tmp_path, models, dtype="float32"))
    rounded = planning.make(job(tmp_path, models))
    assert exact.fingerprint != rounded.fingerprint
    assert Plan.from_json(rounded.to_json()).to_json() == rounded.to_json()


def test_a_job_in_float32_measures_nothing(tmp_path, models, monkeypatch):
    monkeypatch.setattr(agreement, "SAMPLE_ROWS", None)
    assert check(job(tmp_path, models, dtype="float32")).tasks[0].agreement is None
