"""A sample of a source comes from shards all over it, and ends at the number of rows that was asked for."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source.sample import SPREAD, sample
from jobs.spec import SourceSpec
from tests import lake


def sampled(rows, **spec):
    planned, shards = source.plan(SourceSpec.model_validate(spec))
    return sample(planned, shards, rows)


def files_of(found):
    return [int(name[1:]) // 1000 for name in found.rows["id"].to_pylist()]


def test_few_rows_come_from_every_file(tmp_path):
    folder = lake.make_lake(tmp_path, files=3, n=40)
    assert sorted(files_of(sampled(6, path=str(folder)))) == [1, 1, 2, 2, 3, 3]
    found = sampled(500, path=str(folder), where="stars = 1", columns=["id", "stars"])
    assert found.rows.schema.names == ["id", "stars"]
    assert found.rows["stars"].to_pylist() == [1] * 24


def test_files_that_are_too_short_are_made_up_for_by_others(tmp_path):
    for i in range(SPREAD + 5):
        rows = lake.rows(1 if i < SPREAD else 30, start=1000 * i)
        pq.write_table(rows.select(["id"]), tmp_path / f"{i:02}.parquet")
    found = sampled(140, path=str(tmp_path))
    assert len(found.rows) == len(set(found.rows["id"].to_pylist())) == 140
    assert {i for i in files_of(found) if i >= SPREAD} == set(range(SPREAD, SPREAD + 5))


@pytest.mark.parametrize("rows", [1, 3])
def test_a_source_without_rows_gives_none(tmp_path, rows):
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert len(sampled(rows, path=str(tmp_path)).rows) == 0


def test_rows_that_cannot_be_read_are_counted(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"id": "r1"}\n{"id": \n{"id": "r2"}\n')
    found = sampled(10, path=str(tmp_path))
    assert (found.rows["id"].to_pylist(), found.unreadable) == (["r1", "r2"], 1)
