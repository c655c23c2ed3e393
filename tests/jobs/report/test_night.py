"""The report is about the night: every attempt since the last run that finished, however each of them ended."""

import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.report import history
from jobs.store import Store, names
from tests import lake
from transforms.errors import SinkError, SpecError, TooManyRejects


@pytest.fixture
def job(tmp_path, models):
    """Two Parquet files of 40 rows, and a file of JSON lines of which one in three cannot be read."""
    (tmp_path / "in").mkdir()
    for i in range(2):
        pq.write_table(lake.rows(40, start=1000 * i, seed=i), tmp_path / "in" / f"{i}.parquet")
    lines = ['{"id": "x", "text": "fine", "stars": 1}', '{"id": "y", "te', '{"id": "z", "text": "fine", "stars": 2}']
    (tmp_path / "in" / "c.jsonl").write_text("\n".join(lines))
    return lake.write_job(tmp_path, lake.job(tmp_path / "in", tmp_path / "out", models))


def reports(job):
    store = Store(spec.read(job).sink.path)
    return [history.read(store, run_id) for run_id in history.run_ids(store)]


def test_a_run_that_failed_by_rejects_has_a_report_and_the_next_one_counts_its_rows(job):
    with pytest.raises(TooManyRejects):
        run.run(spec.read(job, ["errors.max_fraction=0"]))
    (failed,) = reports(job)
    assert (failed.numbers["status"], failed.numbers["rows_in"], failed.numbers["rows_rejected"]) == ("failed", 83, 1)
    assert "1 of 83 rows were rejected" in failed.numbers["message"]
    assert failed.findings.rows == 82
    assert failed.findings.failures[0]["file"] == "c.jsonl"
    staged = job.parent / "out" / names.STAGED_FILES / names.REJECTED
    assert list(staged.rglob("*"))
    report = run.run(spec.read(job, ["errors.max_fraction=0.5"]))
    assert (report.status, report.rows_in, report.attempts, report.shards_skipped) == ("finished", 83, 2, 3)
    assert report.seconds > failed.numbers["seconds"]


def test_an_attempt_that_stops_is_counted_with_the_one_that_continues(job, monkeypatch):
    execute = run.execute

    def half(held):
        from jobs.runners import beam

        beam.execute(held.plan, held.plan.shards_todo[:1], held.models, held.stop)
        raise SinkError("the store is away")

    monkeypatch.setattr(run, "execute", half)
    with pytest.raises(SinkError):
        run.run(spec.read(job), every_s=0.05)
    monkeypatch.setattr(run, "execute", execute)
    report = run.run(spec.read(job, ["errors.max_fraction=0.5"]), every_s=0.05)
    broken, whole = reports(job)
    assert (broken.numbers["rows_in"], report.rows_in, report.attempts) == (40, 83, 2)
    assert [attempt["status"] for attempt in whole.numbers["attempts_made"]] == ["failed", "finished"]
    seconds = [at for at, _, _ in whole.timeline]
    assert seconds == sorted(seconds)
    assert whole.timeline[-1][1] == 83


def test_the_night_after_a_finished_run_starts_with_zero_rows(job, tmp_path):
    wide = ["errors.max_fraction=0.5"]
    run.run(spec.read(job, wide))
    pq.write_table(lake.rows(10, start=9000), tmp_path / "in" / "9.parquet")
    report = run.run(spec.read(job, wide))
    assert (report.rows_in, report.attempts, report.shards_done, report.shards_skipped) == (10, 1, 1, 3)
    again = run.run(spec.read(job, wide))
    assert (again.rows_in, again.status) == (0, "finished")
    assert len(reports(job)) == 3


@pytest.mark.parametrize(("policy", "removed", "kept"), [("keep", 0, 40), ("remove", 40, 0)])
def test_rows_of_vanished_files_are_counted(job, tmp_path, policy, removed, kept):
    wide = ["errors.max_fraction=0.5", f"sink.on_vanished={policy}"]
    run.run(spec.read(job, wide))
    (tmp_path / "in" / "1.parquet").unlink()
    report = run.run(spec.read(job, wide))
    assert (report.rows_removed, report.rows_vanished) == (removed, kept)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_damaged_report_of_an_earlier_run_stops_no_run_and_is_named_when_it_is_requested(job, content):
    run.run(spec.read(job, ["errors.max_fraction=0.5"]))
    (file,) = (job.parent / "out" / names.REPORTS).iterdir()
    file.write_text(content)
    assert run.run(spec.read(job, ["errors.max_fraction=0.5"])).status == "finished"
    with pytest.raises(SpecError, match=f"{file.name} is damaged"):
        history.read(Store(spec.read(job).sink.path), file.stem)
