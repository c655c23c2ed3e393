"""Part files: the types that they hold, and how they are written."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.plan import planning
from jobs.sink.part import unwritable
from tests import lake
from transforms.errors import SpecError


def job(root):
    tasks = [{"task": "noop", "column": "text", "into": "nothing"}]
    source, sink = {"path": str(root / "in")}, {"path": str(root / "out")}
    return {"name": "nightly", "source": source, "tasks": tasks, "sink": sink}


def test_columns_that_parquet_cannot_hold_are_refused_when_planning(tmp_path, noop_task, monkeypatch):
    interval = pa.array([None, (1, 2, 3)], pa.month_day_nano_interval())
    table = pa.table({"text": ["a", "b"], "every": interval})
    (tmp_path / "in").mkdir()
    with pa.OSFile(str(tmp_path / "in/a.arrow"), "wb") as stream, pa.ipc.new_file(stream, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(SpecError, match=r"cannot hold 'every' \(month_day_nano_interval\).*source.columns"):
        planning.make(spec.parse(job(tmp_path)))
    fields = [
        ("f", pa.float16()),
        ("d", pa.decimal256(50, 3)),
        ("t", pa.timestamp("ns", "UTC")),
        ("v", pa.string_view()),
    ]
    assert unwritable(pa.schema([*fields, ("l", pa.list_(pa.float32(), 3)), ("n", pa.null())])) == []
    assert [f.name for f in unwritable(pa.schema([("s", pa.struct([("x", pa.month_day_nano_interval())]))]))] == ["s"]


def test_part_files_have_a_page_index_and_keep_nanoseconds(tmp_path, noop_task, run_once):
    (tmp_path / "in").mkdir()
    times = pa.array([1, None], pa.timestamp("ns"))
    pq.write_table(pa.table({"id": ["a", "b"], "text": ["x", "y"], "at": times}), tmp_path / "in/a.parquet")
    run_once(job(tmp_path))
    (part,) = lake.parts(tmp_path / "out")
    column = pq.ParquetFile(part).metadata.row_group(0).column(0)
    assert column.has_offset_index
    assert column.has_column_index
    assert pq.read_table(part)["at"].combine_chunks() == times
