"""Other writers of the table: compaction, expiry, appends, a table that is dropped."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest

from jobs import run, spec
from jobs.sink.table import TablePublisher
from tests import lake
from tests.jobs.sink.table.nights import about, from_scratch, night, plain, write
from transforms.errors import SinkError


def test_a_compaction_by_somebody_else_redoes_nothing_until_a_row_changes(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(30), b=lake.rows(20, 30))
    job = tables.job(source, models)
    night(job)
    write(source, c=lake.rows(10, 50))
    night(job)
    tables.compact()
    assert night(job).rows_in == 0
    write(source, d=lake.rows(10, 60))
    assert night(job).rows_in == 10
    assert plain(tables.read()) == about(from_scratch(source, models))
    write(source, a=lake.rows(25, seed=3))
    night(job)
    assert plain(tables.read()) == about(from_scratch(source, models))
    assert night(job).rows_in == 0


def test_rows_of_another_writer_stay(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    job = tables.job(source, models)
    night(job)
    other = tables.read().slice(0, 1).set_column(0, "id", pa.array(["x1"]))
    tables.append(other)
    write(source, a=lake.rows(8, seed=4))
    night(job)
    rows = tables.read()
    assert rows.filter(pa.compute.equal(rows["id"], "x1")).num_rows == 1
    assert plain(rows.filter(pa.compute.not_equal(rows["id"], "x1"))) == about(from_scratch(source, models))


def test_deleted_rows_of_a_rewritten_file_are_not_brought_back(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    job = tables.job(source, models)
    night(job)
    tables.delete("id = 'r11'")
    assert night(job).rows_in == 0
    write(source, a=lake.rows(8, seed=4))
    with pytest.raises(SinkError, match=r"it is unknown which of them are to be replaced; set sink.key to the columns"):
        night(job)
    night(tables.job(source, models, sink={"key": ["id"]}))
    assert sorted(tables.read()["id"].to_pylist()) == sorted(f"r{i}" for i in range(15) if i != 11)


def test_a_commit_of_somebody_else_at_the_same_time_is_no_loss(tables, models, tmp_path, monkeypatch):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    job = tables.job(source, models)
    night(job)
    other = tables.read().slice(0, 1).set_column(0, "id", pa.array(["x1"]))
    write(source, a=lake.rows(8, seed=4))
    look, done = TablePublisher.look, []

    def look_and_be_overtaken(publisher):
        found = look(publisher)
        # The second look is the one that the commit is made for.
        if len(done) < 3:
            done.append(found)
            if len(done) == 2:
                tables.append(other)
        return found

    monkeypatch.setattr(TablePublisher, "look", look_and_be_overtaken)
    night(job)
    rows = tables.read()
    assert rows.filter(pa.compute.equal(rows["id"], "x1")).num_rows == 1
    assert plain(rows.filter(pa.compute.not_equal(rows["id"], "x1"))) == about(from_scratch(source, models))


def test_expired_snapshots_and_vacuumed_files_break_nothing(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    job = tables.job(source, models)
    night(job)
    write(source, a=lake.rows(8, seed=4))
    night(job)
    tables.expire()
    assert night(job).rows_in == 0
    write(source, b=lake.rows(7, 10, seed=6))
    night(job)
    assert plain(tables.read()) == about(from_scratch(source, models))


def test_a_table_that_was_dropped_is_written_anew(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    job = tables.job(source, models)
    night(job)
    if tables.format == "delta":
        shutil.rmtree(tables.path / "_delta_log")
    else:
        tables.catalog().drop_table("nights.reviews")
    report = night(job)
    assert report.rows_in == 15
    assert plain(tables.read()) == about(from_scratch(source, models))
    assert night(job).rows_in == 0


def test_two_runs_at_once_one_is_refused(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10))
    plan = run.prepare(spec.parse(tables.job(source, models)))
    with run.holding(plan) as held:
        with pytest.raises(SinkError, match="is being written by"):
            night(tables.job(source, models))
        run.execute(held)
        run.finish(held)
    assert plain(tables.read()) == about(from_scratch(source, models))


def test_a_key_replaces_rows_whoever_wrote_them(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    night(tables.job(source, models))
    other = tables.read().slice(0, 2).set_column(0, "id", pa.array(["x1", "x2"]))
    tables.append(other)
    changed = lake.rows(2, seed=8).set_column(0, "id", pa.array(["x1", "r12"]))
    write(source, c=changed)
    night(tables.job(source, models, sink={"key": ["id"]}))
    rows = {row["id"]: row for row in tables.read().to_pylist()}
    assert len(rows) == len(tables.read()) == 17
    assert rows["x1"]["text"] == changed["text"][0].as_py()
    assert rows["r12"]["text"] == changed["text"][1].as_py()
    assert rows["x2"]["text"] == other["text"][1].as_py()


def test_of_several_rows_with_one_key_the_last_one_stays(tables, models, tmp_path):
    twice = lake.rows(6).set_column(0, "id", pa.array(["k1", "k2", "k1", "k3", "k2", "k4"]))
    source = write(tmp_path / "in", a=twice, b=lake.rows(1, seed=9).set_column(0, "id", pa.array(["k4"])))
    job = tables.job(source, models, sink={"key": ["id"], "mode": "append"})
    night(job)
    rows = {row["id"]: row["text"] for row in tables.read().to_pylist()}
    assert len(tables.read()) == 4
    assert (rows["k1"], rows["k2"]) == (twice["text"][2].as_py(), twice["text"][4].as_py())
    assert rows["k4"] == lake.rows(1, seed=9)["text"][0].as_py()
    write(source, a=twice.slice(0, 1))
    night(job)
    rows = {row["id"]: row["text"] for row in tables.read().to_pylist()}
    assert len(rows) == 4
    assert rows["k1"] == twice["text"][0].as_py()
