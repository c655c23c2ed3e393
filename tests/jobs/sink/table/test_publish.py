"""Runs that publish into a Delta Lake or Iceberg table."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests import lake
from tests.jobs.sink.table.nights import about, from_scratch, night, plain, write
from transforms.errors import SpecError


def test_one_transaction_publishes_a_run_and_small_shards_share_a_file(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(30), b=lake.rows(20, 30), c=lake.rows(10, 50))
    report = night(tables.job(source, models))
    assert (report.rows_out, report.shards_done) == (60, 3)
    assert plain(tables.read()) == about(from_scratch(source, models))
    assert (len(tables.files()), tables.versions()) == (1, 1)
    assert night(tables.job(source, models)).rows_in == 0
    assert tables.versions() == 1


def test_a_changed_file_replaces_its_rows_and_leaves_those_of_others(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(30), b=lake.rows(20, 30), c=lake.rows(10, 50))
    night(tables.job(source, models))
    write(source, b=lake.rows(25, 30, seed=5), c=lake.rows(10, 60))
    (source / "a.parquet").unlink()
    report = night(tables.job(source, models, sink={"on_vanished": "remove"}))
    assert (report.rows_in, report.rows_removed) == (35, 30)
    assert plain(tables.read()) == about(from_scratch(source, models))
    assert tables.versions() == 2


def test_append_adds_the_rows_of_a_changed_file(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(10), b=lake.rows(5, 10))
    night(tables.job(source, models, sink={"mode": "append"}))
    write(source, a=lake.rows(4, 20))
    night(tables.job(source, models, sink={"mode": "append"}))
    assert tables.read()["id"].to_pylist() == sorted(f"r{i}" for i in [*range(15), *range(20, 24)])


def test_rows_are_divided_by_partition_columns(tables, models, tmp_path):
    rows = lake.rows(40)
    rows = rows.append_column("day", pa.array([datetime.date(2026, 1, 1 + i % 3) for i in range(40)]))
    rows = rows.append_column("topic", pa.array(["a b/ü", None, "x=y%", "a b/ü"] * 10))
    source = write(tmp_path / "in", a=rows.slice(0, 25), b=rows.slice(25))
    job = tables.job(source, models, sink={"partition_by": ["topic", "day"]})
    night(job)
    assert plain(tables.read()) == about(from_scratch(source, models))
    assert len(tables.files()) == 9
    write(source, b=rows.slice(25, 5))
    night(job)
    assert plain(tables.read()) == about(from_scratch(source, models))


def test_a_new_table_is_partitioned_like_the_source(tables, models, tmp_path):
    for lang in ("en", "de"):
        folder = tmp_path / "in" / f"lang={lang}"
        folder.mkdir(parents=True)
        pq.write_table(lake.rows(6, 10 if lang == "de" else 0), folder / "a.parquet")
    night(tables.job(tmp_path / "in", models))
    assert len(tables.files()) == 2
    langs = dict(zip(tables.read()["id"].to_pylist(), tables.read()["lang"].to_pylist(), strict=True))
    assert (langs["r0"], langs["r12"]) == ("en", "de")


def test_shards_that_fill_a_file_keep_their_own(tables, models, tmp_path):
    noise = pa.array([np.random.default_rng(i).bytes(3000) for i in range(900)], pa.binary())
    rows = lake.rows(900).append_column("noise", noise)
    source = write(tmp_path / "in", a=rows.slice(0, 450), b=rows.slice(450))
    night(tables.job(source, models, sink={"part_mb": 1}))
    assert len(tables.files()) >= 2
    assert tables.read()["noise"].to_pylist() == rows.sort_by("id")["noise"].to_pylist()


def test_a_new_task_adds_its_column(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(20), b=lake.rows(10, 20))
    job = tables.job(source, models)
    night(job)
    before = tables.read()
    job["tasks"].append(job["tasks"][0] | {"into": "again", "column": "id"})
    report = night(job)
    assert (report.rows_reused, report.tokens > 0) == (30, True)
    after = tables.read()
    assert after.select(before.column_names).to_pylist() == before.to_pylist()
    assert after["again"].null_count == 0


def test_columns_have_types_that_the_table_has(tables, models, tmp_path):
    rows = lake.rows(3)
    more = {
        "u8": pa.array([200, None, 3], pa.uint8()),
        "u64": pa.array([2**64 - 1, 0, None], pa.uint64()),
        "ns": pa.array([1_700_000_000_123_456_789, None, 5], pa.timestamp("ns")),
        "half": pa.array([1.5, None, 2.0], pa.float16()),
        "word": pa.array(["x", None, "x"]).dictionary_encode(),
        "nothing": pa.nulls(3),
        "tags": pa.array([["a"], None, []], pa.list_(pa.string())),
        "pair": pa.array([{"a": 1}, None, {"a": None}], pa.struct([("a", pa.uint16())])),
    }
    for name, values in more.items():
        rows = rows.append_column(name, values)
    night(tables.job(write(tmp_path / "in", a=rows), models))
    found = tables.read().to_pydict()
    assert found["u8"] == [200, None, 3]
    assert [None if x is None else int(x) for x in found["u64"]] == [2**64 - 1, 0, None]
    assert found["ns"][0].microsecond == 123_456
    assert (found["half"], found["word"], found["nothing"]) == ([1.5, None, 2.0], ["x", None, "x"], [None] * 3)
    assert (found["tags"], found["pair"]) == ([["a"], None, []], [{"a": 1}, None, {"a": None}])


def test_a_column_that_the_table_cannot_hold_is_refused_before_anything_is_written(tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(2).append_column("gap", pa.array([1, 2], pa.duration("s"))))
    with pytest.raises(SpecError, match=r"cannot hold 'gap' \(duration\[s\]\); leave such columns out"):
        night(tables.job(source, models))
    assert not tables.path.exists()


@pytest.mark.parametrize(
    ("sink", "expected"),
    [
        ({"key": ["ids"]}, r"sink.key: 'ids' is no column of the rows; columns: id, text, stars, sentiment"),
        ({"partition_by": ["sentiment"]}, r"sink.partition_by: 'sentiment' is struct.* cannot be partitioned"),
        ({"partition_by": ["nope"]}, r"sink.partition_by: 'nope' is no column"),
    ],
)
def test_a_wrong_key_or_partition_column_is_named(tables, models, tmp_path, sink, expected):
    with pytest.raises(SpecError, match=expected):
        night(tables.job(write(tmp_path / "in", a=lake.rows(2)), models, sink=sink))


def test_an_existing_table_with_another_type_of_a_column_is_refused(tables, models, tmp_path):
    night(tables.job(write(tmp_path / "in", a=lake.rows(2)), models))
    other = lake.rows(2).set_column(2, "stars", pa.array(["1", "2"]))
    job = tables.job(write(tmp_path / "in", a=other), models)
    with pytest.raises(SpecError, match=r"column 'stars' is string in the rows of this job and int(8|32) in "):
        night(job)
