"""Commands on the table of a sink after another writer has compacted it and deleted the older files."""

from __future__ import annotations

import json

import pytest

from jobs import cli
from tests import lake
from tests.jobs.sink.table.nights import night, write

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def job(tables, models, tmp_path, shout):
    """A job with two nights behind it; of its second file one row was rejected, and a compaction came between."""
    shout.refuse("loud")
    job = tables.job(write(tmp_path / "in", a=lake.rows(10)), models)
    job |= {"tasks": [{"task": shout.task, "column": "text", "into": "loud"}], "errors": {"max_fraction": 1}}
    night(job)
    rows = lake.rows(12, 30, seed=1).to_pylist()
    rows[3]["text"] = "loud"
    write(tmp_path / "in", b=lake.rows(1).from_pylist(rows, lake.rows(1).schema))
    night(job)
    tables.compact()
    tables.expire()
    if tables.format == "iceberg":
        # As a removal of orphan files does.
        active = {file.removeprefix("file://") for file in tables.files()}
        for file in (tables.path / "data").rglob("*.parquet"):
            if str(file) not in active:
                file.unlink()
    return job


def command(capsys, *words):
    capsys.readouterr()
    code = cli.main([str(word) for word in words])
    out = capsys.readouterr()
    assert code == 0, out.err
    return out.out


def test_rows_that_a_run_has_written_since_are_traced(tables, job, tmp_path, capsys):
    write(tmp_path / "in", c=lake.rows(5, 60, seed=2))
    night(job)
    assert "c.parquet" in command(capsys, "trace", tables.url, "--where", "id = 'r62'")
    assert "no row" in command(capsys, "trace", tables.url, "--where", "id = 'r1'").lower()


def test_the_reasons_of_a_plan_name_the_other_writer(tables, job, tmp_path, capsys):
    file = lake.write_job(tmp_path, job)
    write(tmp_path / "in", a=lake.rows(11))
    out = command(capsys, "plan", file, "--why")
    assert "changed file" in out
    assert "rewritten by another writer" in out


def test_rejected_rows_are_tried_again_when_the_table_allows_it(tables, job, tmp_path, capsys, shout):
    file = lake.write_job(tmp_path, job)
    shout.refuse()
    shout.taken()
    command(capsys, "run", file, "--only-rejected")
    before = shout.taken()
    write(tmp_path / "in", a=lake.rows(11))
    night(job)
    assert sorted([*before, *shout.taken()]).count("loud") == 1
    assert len(tables.read()) == 23


def test_rows_of_a_person_are_found_in_files_of_another_writer(tables, job, tmp_path, capsys):
    # Only the enriched rows say whose the text of an example is.
    report = max((tables.path / "_nightscribe" / "reports").glob("*.json"))
    text = json.loads(report.read_text())["findings"]["examples"][0]["text"]
    person = next(row["id"] for row in tables.read().to_pylist() if row["text"] == text)
    file = lake.write_job(tmp_path, job)
    out = command(capsys, "forget", "--job", file, "--where", f"id = '{person}'", "--dry-run")
    assert json.loads(out.splitlines()[-1])["rows"] >= 1


def test_a_night_that_was_held_back_is_published(tables, job, tmp_path, capsys):
    job = json.loads(json.dumps(job))
    job["sink"]["audit"] = {"rejected": 0.01}
    file = lake.write_job(tmp_path, job)
    rows = lake.rows(4, 80, seed=3).to_pylist()
    rows[0]["text"] = "loud"
    write(tmp_path / "in", c=lake.rows(1).from_pylist(rows, lake.rows(1).schema), a=lake.rows(11))
    before = tables.read()
    assert cli.main(["run", str(file), "--quiet"]) == 1
    assert tables.read().equals(before)
    command(capsys, "publish", file, "--reason", "fine", "--by", "me")
    assert len(tables.read()) == 11 + 11 + 3
