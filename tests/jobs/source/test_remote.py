"""Parquet on an object store: only footers while planning, only wanted columns after, also on a bad network."""

from __future__ import annotations

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source.shard import BadRow
from jobs.spec import SourceSpec
from tests import proxy, s3
from tests.minio import PASSWORD, USER
from tests.proxy import Fault
from transforms.errors import SourceError

ROWS, COLUMNS = 4_000, 20


@pytest.fixture(scope="module")
def table():
    import numpy as np

    draw = np.random.default_rng(0)
    return pa.table({f"c{i}": draw.integers(0, 1 << 60, ROWS) for i in range(COLUMNS)})


@pytest.fixture
def between(minio):
    with proxy.running(minio.address) as found:
        yield found


@pytest.fixture
def shelf(minio, between, table):
    """A bucket with three files of 20 columns in four row groups each, seen through the proxy."""
    bucket = minio.make_bucket("shelf") if not _exists(minio) else "s3://shelf"
    with s3.pointed_to(between.address, USER, PASSWORD):
        fs = fsspec.filesystem("s3", skip_instance_cache=True)
        for i in range(3):
            with fs.open(f"{bucket}/in/{i}.parquet", "wb") as stream:
                pq.write_table(table, stream, row_group_size=ROWS // 4, compression="none", use_dictionary=False)
        between.forget()
        yield f"{bucket}/in"


def _exists(minio):
    return any(each["Name"] == "shelf" for each in minio.client().list_buckets()["Buckets"])


def test_planning_reads_one_listing_and_one_footer_a_file(between, shelf):
    shards = source.plan(SourceSpec(path=shelf))[1]
    assert len(shards) == 3
    # Is it a file, is it a folder, what is in it.
    assert (between.count("HEAD"), between.count("GET", ".parquet"), between.count("GET")) == (1, 3, 3 + 3)
    assert between.received < 3 * 80_000


def test_of_a_shard_only_the_wanted_columns_are_read(between, shelf, table):
    planned, shards = source.plan(SourceSpec(path=shelf, columns=["c3", "c17"]))
    between.forget()
    batches = list(source.read(planned, shards[0], 500))
    assert pa.Table.from_batches(batches).equals(table.select(["c3", "c17"]))
    # The end of the file, and two columns of four row groups; no column between them.
    assert between.count("HEAD") == 0
    assert between.count("GET") <= 1 + 8
    assert between.received < 64 * 1024 + 2 * ROWS * 8 * 1.2 + 20_000


def test_a_file_that_was_replaced_since_the_plan_is_refused(shelf, table):
    planned, shards = source.plan(SourceSpec(path=shelf))
    fs = fsspec.filesystem("s3", skip_instance_cache=True)
    with fs.open(f"{shelf}/0.parquet", "wb") as stream:
        pq.write_table(table.slice(1), stream)
    with pytest.raises(SourceError, match="has changed since the run was planned; run again"):
        list(source.read(planned, shards[0], 500))


@pytest.mark.parametrize(
    "fault",
    [
        Fault(status=503, share=0.4),
        Fault(status=429, share=0.4),
        Fault(cut_upload_after=0, share=0.4),
        Fault(cut_answer_after=0, share=0.4),
        Fault(cut_answer_after=30_000, share=0.4),
    ],
    ids=["503", "429", "reset", "lost", "cut"],
)
def test_rows_are_complete_although_requests_are_refused_and_connections_cut(between, shelf, table, fault):
    between.faults = [fault]
    planned, shards = source.plan(SourceSpec(path=shelf, columns=["c3", "c4", "c5"]))
    batches = [batch for shard in shards for batch in source.read(planned, shard, 500)]
    assert not any(isinstance(batch, BadRow) for batch in batches)
    assert pa.Table.from_batches(batches).equals(pa.concat_tables([table.select(["c3", "c4", "c5"])] * 3))
    assert between.hit


def test_a_store_that_refuses_for_good_is_given_up_in_one_sentence(between, shelf, monkeypatch):
    planned, shards = source.plan(SourceSpec(path=shelf))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    between.forget()
    between.faults = [Fault(status=503)]
    with pytest.raises(
        SourceError, match=r"0.parquet could not be read as parquet: .*reduce your request rate"
    ) as told:
        list(source.read(planned, shards[0], 500))
    assert "\n" not in str(told.value)
    assert len(between.requests) == 2
