"""The proxy of the tests forwards what a client sends, and every fault reaches the client as that fault."""

from __future__ import annotations

import time
import uuid

import botocore.session
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, HTTPClientError

from tests import proxy
from tests.minio import PASSWORD, REGION, USER
from tests.proxy import Fault


@pytest.fixture
def between(minio):
    with proxy.running(minio.address) as found:
        yield found


@pytest.fixture
def bucket(minio):
    name = f"lake-{uuid.uuid4().hex}"
    minio.make_bucket(name)
    return name


def client(between):
    """A client that never repeats a request."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=between.address,
        aws_access_key_id=USER,
        aws_secret_access_key=PASSWORD,
        region_name=REGION,
        config=Config(retries={"total_max_attempts": 1}),
    )


def test_requests_are_forwarded_and_counted(between, bucket):
    s3 = client(between)
    s3.put_object(Bucket=bucket, Key="a/x", Body=b"x" * 200_000)
    assert s3.get_object(Bucket=bucket, Key="a/x")["Body"].read() == b"x" * 200_000
    assert [each["Key"] for each in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a/x"]
    assert (between.count("PUT", "/a/x"), between.count("GET", "/a/x"), between.count("GET")) == (1, 1, 2)
    assert between.sent > 200_000 < between.received


@pytest.mark.parametrize("status", [429, 503])
def test_the_first_requests_are_refused_and_the_next_ones_are_not(between, bucket, status):
    between.faults = [Fault(status=status, times=2, only=lambda request: request.method == "PUT")]
    s3 = client(between)
    for _ in range(2):
        with pytest.raises(ClientError) as caught:
            s3.put_object(Bucket=bucket, Key="x", Body=b"x" * 100_000)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
    s3.put_object(Bucket=bucket, Key="x", Body=b"x")
    assert len(between.hit) == 2


def test_an_upload_that_is_cut_leaves_no_object_and_a_lost_answer_leaves_one(between, bucket):
    s3 = client(between)
    between.faults = [Fault(cut_upload_after=50_000)]
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket=bucket, Key="x", Body=b"x" * 100_000)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket)
    between.faults = [Fault(cut_answer_after=0, times=1)]
    with pytest.raises(HTTPClientError):
        s3.put_object(Bucket=bucket, Key="x", Body=b"x")
    assert s3.get_object(Bucket=bucket, Key="x")["Body"].read() == b"x"


def test_an_answer_is_cut_after_its_first_bytes(between, bucket):
    s3 = client(between)
    s3.put_object(Bucket=bucket, Key="x", Body=b"x" * 300_000)
    between.faults = [Fault(cut_answer_after=100_000)]
    with pytest.raises((HTTPClientError, OSError)):
        s3.get_object(Bucket=bucket, Key="x")["Body"].read()
    assert 90_000 < between.received < 110_000


def test_delays_and_throttles_take_their_time(between, bucket):
    s3 = client(between)
    between.delay_s, between.bytes_per_s = 0.1, 1_000_000
    started = time.monotonic()
    s3.put_object(Bucket=bucket, Key="x", Body=b"x" * 200_000)
    assert time.monotonic() - started > 0.3


def test_faults_by_chance_hit_the_same_share_of_requests(minio, bucket):
    hits = []
    for _ in range(2):
        with proxy.running(minio.address, seed=7) as between:
            between.faults = [Fault(status=503, share=0.3)]
            s3 = client(between)
            for _ in range(40):
                try:
                    s3.head_bucket(Bucket=bucket)
                except ClientError:
                    continue
            hits.append(len(between.hit))
    assert hits[0] == hits[1]
    assert 4 < hits[0] < 24
