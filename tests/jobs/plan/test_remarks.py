"""What a plan and a run say beside errors: columns that files lack, rows of files that are gone."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests import lake

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def said(tmp_path, models, capsys, monkeypatch):
    """A function that runs a command on a job over `in/`, and returns what it says."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()

    def call(command, **more):
        content = lake.job(tmp_path / "in", tmp_path / "out", models) | more
        file = lake.write_job(tmp_path, content)
        assert cli.main([command, str(file)]) == 0
        out = capsys.readouterr()
        return out.out if command == "plan" else out.err

    return call


def write(name, **columns):
    pq.write_table(pa.table(columns), f"in/{name}.parquet")


def test_a_column_that_some_files_lack_is_told_by_plan_and_run(said):
    write("a", id=["1"], text=["x"])
    assert "is not in" not in said("plan")
    write("b", id=["2"], Text=["y"])
    write("c", id=pa.array([], pa.string()))
    sentence = (
        "Column 'text', which classify reads, is not in 1 of 2 files to do (b.parquet, which has 'Text'): it is null "
        "in their rows."
    )
    assert any(line.startswith("note ") and line.endswith(sentence) for line in said("plan").splitlines())
    assert sentence in said("run").splitlines()
    assert "is not in" not in said("run")


def test_a_field_that_some_files_lack_is_told(said, models):
    kinds = [pa.struct([("body", pa.string())]), pa.struct([("title", pa.string())]), pa.null()]
    for i, kind in enumerate(kinds):
        write(i, post=pa.array([None], kind))
    task = {"task": "classify", "column": "post.body", "model": str(models / "sentiment"), "into": "s"}
    assert "'post.body', which classify reads, is not in 2 of 3 files to do (the first is 1.par" in said(
        "plan", tasks=[task]
    )


def test_rows_of_a_renamed_file_that_stay_are_told(said, tmp_path):
    write("a", id=["1", "2"], text=["x", "y"])
    assert "stay" not in said("run")
    os.rename("in/a.parquet", "in/b.parquet")
    sentence = "2 rows of source files that are gone stay in the sink; sink.on_vanished: remove takes them out."
    assert sentence in said("plan")
    assert sentence in said("run")
    sink = {"path": str(tmp_path / "out"), "on_vanished": "remove"}
    assert "2 rows of 1 source file that are gone" in said("plan", sink=sink)
    assert "stay" not in said("run", sink=sink)
    assert len(lake.read(tmp_path / "out")) == 2


def test_a_part_file_that_was_deleted_by_hand_is_the_reason(said, tmp_path):
    write("a", id=["1"], text=["x"])
    said("run")
    lake.parts(tmp_path / "out")[0].unlink()
    assert "1 to do: its part file is gone from the sink" in said("plan")
    said("run")
    assert "1 shard done, 0 to do" in said("plan")
