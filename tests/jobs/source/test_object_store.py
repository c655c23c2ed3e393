"""A source on S3, read through s3fs beside local files; what the store refuses is one sentence."""

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.spec import SourceSpec
from tests import s3
from transforms.errors import NightscribeError, SourceError, SpecError


@pytest.fixture(scope="module")
def bucket():
    with s3.server("shelf"):
        yield fsspec.filesystem("s3")


def put(bucket, name: str, *numbers: int) -> None:
    with bucket.open(f"shelf/{name}", "wb") as stream:
        pq.write_table(pa.table({"nr": numbers}), stream)


def numbers(path, sink=None) -> list[int]:
    planned, shards = source.plan(SourceSpec(path=path), outside=sink)
    batches = [batch for shard in shards for batch in source.read(planned, shard, 100)]
    return sorted(number for batch in batches for number in batch.column("nr").to_pylist())


def test_folders_globs_and_files_are_read_with_their_etags(bucket, tmp_path):
    put(bucket, "a/lang=de/x.parquet", 1)
    put(bucket, "a/lang=__HIVE_DEFAULT_PARTITION__/[1] y.parquet", 2)
    put(bucket, "a/_rejected/x.parquet", 9)
    assert numbers("s3://shelf/a") == numbers("s3://shelf/a/") == numbers("s3://shelf/a/**/*.parquet") == [1, 2]
    assert numbers("s3://shelf/a/lang=__HIVE_DEFAULT_PARTITION__/[1] y.parquet") == [2]
    assert numbers("s3://shelf/a/lang=d?/*.parquet") == [1]
    pq.write_table(pa.table({"nr": [3]}), tmp_path / "z.parquet")
    for paths in (["s3://shelf/a", str(tmp_path)], [str(tmp_path), "s3://shelf/a"]):
        assert numbers(paths) == [1, 2, 3]
    shard = source.plan(SourceSpec(path="s3://shelf/a"))[1][1]
    assert (shard.key, shard.version) == (
        "lang=de/x.parquet",
        bucket.info("shelf/a/lang=de/x.parquet")["ETag"].strip('"'),
    )


def test_files_that_are_new_since_the_last_look_are_seen(bucket):
    put(bucket, "b/x.parquet", 1)
    assert numbers("s3://shelf/b") == [1]
    fsspec.filesystem("s3", skip_instance_cache=True).copy("shelf/b/x.parquet", "shelf/b/y.parquet")
    assert numbers("s3://shelf/b") == [1, 1]


@pytest.mark.parametrize(
    ("path", "kind", "told"),
    [
        ("s3://shelf/nothing", SpecError, "source.path 's3://shelf/nothing' matches no data file; give a file"),
        ("s3://shelf/nothing/*.parquet", SpecError, "matches no data file"),
        ("s3://no-such-bucket/x", SpecError, "no-such-bucket"),
    ],
)
def test_missing_things_are_reported(bucket, path, kind, told):
    with pytest.raises(kind, match=told.replace("*", r"\*")) as caught:
        numbers(path)
    assert "\n" not in str(caught.value)


def test_a_store_that_does_not_answer_is_reported(bucket, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    type(bucket).clear_instance_cache()
    with pytest.raises(NightscribeError) as caught:
        numbers("s3://shelf/a")
    type(bucket).clear_instance_cache()
    assert isinstance(caught.value, SourceError)
    assert "source.path 's3://shelf/a' cannot be listed: " in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_sink_inside_a_source_on_s3_is_refused(bucket):
    put(bucket, "c/x.parquet", 1)
    for path in ("s3://shelf/c", "s3://shelf/c/**/*.parquet"):
        with pytest.raises(SpecError, match=r"lies inside source.path"):
            numbers(path, sink="s3://shelf/c/out")
        with pytest.raises(SpecError, match=r"lies in sink.path"):
            numbers(path, sink="s3://shelf")
        assert numbers(path, sink="s3://shelf/out") == [1]
    assert numbers("s3://shelf/c/*.parquet", sink="s3://shelf/c/out") == [1]
