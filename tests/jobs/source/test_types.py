"""Parquet files of one lake with different columns and types: what is read, and what a refusal advises."""

import re
from datetime import UTC, date, datetime

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from jobs import source
from jobs.spec import SourceSpec
from transforms.errors import SourceError

MOMENT = datetime(2026, 11, 28, 12, tzinfo=UTC)


def write(folder, *tables):
    """Write files a.parquet, b.parquet and so on; returns the source."""
    for name, table in zip("abc", tables, strict=False):
        pq.write_table(pa.table(table), folder / f"{name}.parquet")
    return SourceSpec(path=str(folder))


def read(spec):
    planned, shards = source.plan(spec)
    items = [item for shard in shards for item in source.read(planned, shard, 64)]
    return pa.Table.from_batches(items, planned.schema)


def test_files_of_one_lake_may_lack_columns_and_widen_types(tmp_path):
    small = {"id": pa.array([1], pa.int32()), "text": ["x"]}
    large = {"id": pa.array([2], pa.int64()), "text": ["y"], "new": [1.5]}
    got = read(write(tmp_path, small, large))
    assert got.to_pylist() == [{"id": 1, "text": "x", "new": None}, {"id": 2, "text": "y", "new": 1.5}]
    with pytest.raises(SourceError, match=r"c\.parquet does not fit the files before it"):
        source.plan(write(tmp_path, small, large, {"id": ["three"], "text": ["z"]}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1]), pa.array(["x"])),
        (pa.array([True]), pa.array([1])),
        (pa.array([date(2026, 11, 28)]), pa.array([datetime(2026, 11, 28)], pa.timestamp("us"))),
        (pa.array([MOMENT], pa.timestamp("us", "UTC")), pa.array([MOMENT], pa.timestamp("ms", "Europe/Berlin"))),
    ],
)
def test_the_type_that_is_advised_for_files_that_do_not_fit_is_accepted(tmp_path, one, other):
    spec = write(tmp_path, {"v": one}, {"v": other})
    with pytest.raises(SourceError, match=r"name its type, such as source.types: \{v: ") as refused:
        source.plan(spec)
    advice = re.search(r"source.types: (\{.*?\})", str(refused.value))[1]
    got = read(SourceSpec(path=str(tmp_path), types=yaml.safe_load(advice)))
    assert (got["v"].null_count, len(got)) == (0, 2)


@pytest.mark.parametrize(("one", "other"), [([["x"]], ["x"]), ([{"a": 1}], [1]), ([MOMENT], [datetime(2026, 11, 28)])])
def test_no_type_is_advised_where_there_is_none(tmp_path, one, other):
    with pytest.raises(SourceError, match=r"in .*a.parquet; leave the column out with source.columns"):
        source.plan(write(tmp_path, {"v": one}, {"v": other}))
