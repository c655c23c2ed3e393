"""A large part file goes up in parts: nothing is seen before the end, and a failed upload leaves nothing behind."""

from __future__ import annotations

import pytest

from jobs.store import Store
from tests import proxy, s3
from tests.minio import PASSWORD, USER
from tests.proxy import Fault
from transforms.errors import SinkError

# s3fs sends files of 100 MiB and more in parts of 50.
SIZE = 101 << 20


@pytest.fixture
def between(minio):
    with proxy.running(minio.address) as found, s3.pointed_to(found.address, USER, PASSWORD):
        yield found


@pytest.fixture
def large(tmp_path):
    path = tmp_path / "large"
    with path.open("wb") as stream:
        stream.truncate(SIZE)
    return path


def is_part(request):
    return request.method == "PUT" and "partNumber=" in request.path


def is_end(request):
    return request.method == "POST" and "uploadId=" in request.path


def test_an_upload_in_parts_that_is_cut_is_repeated_part_by_part(minio, minio_bucket, between, large):
    between.faults = [
        Fault(only=is_part, cut_upload_after=5 << 20, times=1),
        # The end of the upload is done, and its answer lost.
        Fault(only=is_end, cut_answer_after=0, times=1),
    ]
    Store(f"{minio_bucket}/out").publish(large, "part")
    assert len(between.hit) == 2
    (found,) = minio.client().list_objects_v2(Bucket=minio_bucket.removeprefix("s3://"))["Contents"]
    assert found["Size"] == SIZE


def test_an_upload_in_parts_that_is_given_up_leaves_no_object_and_no_parts(
    minio, minio_bucket, between, large, monkeypatch
):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    between.faults = [Fault(only=lambda request: "partNumber=2" in request.path, cut_upload_after=5 << 20)]
    with pytest.raises(SinkError, match="cannot be reached"):
        Store(f"{minio_bucket}/out").publish(large, "part")
    name = minio_bucket.removeprefix("s3://")
    assert "Contents" not in minio.client().list_objects_v2(Bucket=name)
    assert "Uploads" not in minio.client().list_multipart_uploads(Bucket=name, Prefix="out/part")
