"""A column that a task reads as text is text, whatever the head of a file without types looks like."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source.formats import csv, jsonl
from jobs.spec import SourceSpec
from tests import lake
from transforms.errors import SourceError, SpecError


def read(folder, texts):
    planned, shards = source.plan(SourceSpec(path=str(folder)), texts=texts)
    batches = [item for shard in shards for item in source.read(planned, shard, 64)]
    return pa.Table.from_batches(batches, planned.schema)


def test_digits_in_the_head_of_a_csv_are_text_where_they_are_read_as_text(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 64)
    values = ["007", *map(str, range(50)), "1.50", "true", "2020-01-01", "NA", "words"]
    (tmp_path / "a.csv").write_text("id,text\n" + "".join(f"{i},{value}\n" for i, value in enumerate(values)))
    got = read(tmp_path, {"text"})
    assert got["text"].to_pylist() == values
    assert got["id"].to_pylist() == list(range(len(values)))


def test_dates_and_nulls_in_the_head_of_json_lines_are_text_where_they_are_read_as_text(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SAMPLE_BYTES", 200)
    rows = [{"day": "2020-01-01", "note": None, "about": {"day": "2020-01-01", "n": 1}} for _ in range(9)]
    rows += [{"day": "tomorrow", "note": "late", "about": {"day": "never", "n": 2}}]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert read(tmp_path, {"day", "note", "about.day"}).to_pylist() == rows


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", '{"text": 1}\n'), ("a.parquet", None)])
def test_a_column_that_a_file_declares_as_a_number_is_not_read_as_text(tmp_path, models, name, content):
    folder = tmp_path / "in"
    folder.mkdir()
    if content is None:
        pq.write_table(pa.table({"text": [1]}), folder / name)
    else:
        (folder / name).write_text(content)
    with pytest.raises(SpecError, match="column 'text' is int64, and classify reads text"):
        lake.execute(lake.job(folder, tmp_path / "out", models))


def test_a_job_over_a_csv_of_digits_runs(tmp_path, models):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/a.csv").write_text("id,text\n" + "".join(f"r{i},{i}\n" for i in range(30)))
    report = lake.execute(lake.job(tmp_path / "in", tmp_path / "out", models))
    assert (report.rows_out, report.rows_rejected) == (30, 0)
    assert sorted(lake.read(tmp_path / "out")["text"].to_pylist(), key=int) == [str(i) for i in range(30)]


def test_a_declared_number_beside_a_csv_column_that_is_read_as_text_is_refused(tmp_path):
    (tmp_path / "a.csv").write_text("text\n1\n")
    pq.write_table(pa.table({"text": [1]}), tmp_path / "b.parquet")
    with pytest.raises(SourceError, match=r"b.parquet does not fit the files before it"):
        source.plan(SourceSpec(path=str(tmp_path)), texts={"text"})
