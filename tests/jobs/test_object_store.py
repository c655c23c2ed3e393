"""Whole jobs on a real object store: over a bad network, killed, with few rights, and without a word of keys."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import uuid

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests import lake, proxy, s3
from tests.minio import PASSWORD, USER
from tests.proxy import Fault

FILES, ROWS = 4, 60
# MinIO does not look at it.
ROLE = "arn:minio:iam:::role/any"


@pytest.fixture
def between(minio):
    with proxy.running(minio.address, seed=3) as found, s3.pointed_to(found.address, USER, PASSWORD):
        yield found


@pytest.fixture
def bucket(minio, between, tmp_path):
    """A bucket with a lake; the same lake is in a folder."""
    url = minio.make_bucket(f"lake-{uuid.uuid4().hex}")
    lake.make_lake(tmp_path / "in", files=FILES, n=ROWS)
    for file in (tmp_path / "in").rglob("*.parquet"):
        key = f"in/{file.relative_to(tmp_path / 'in')}"
        minio.client().put_object(Bucket=url.removeprefix("s3://"), Key=key, Body=file.read_bytes())
    return url


def bad_network(between):
    """Of a hundred requests some fifteen fail, in every way."""
    between.faults = [
        Fault(status=503, share=0.03),
        Fault(status=429, share=0.03),
        Fault(cut_upload_after=300, share=0.05),
        Fault(cut_upload_after=0, share=0.02),
        Fault(cut_answer_after=0, share=0.03),
        Fault(cut_answer_after=200, share=0.02),
        Fault(delay_s=0.1, share=0.02),
    ]
    between.delay_s, between.bytes_per_s = 0.002, 4_000_000


def read(minio, bucket, folder="out"):
    """The rows of a sink, in the order of their ids, as they are on the server."""
    client, name = minio.client(), bucket.removeprefix("s3://")
    found = client.list_objects_v2(Bucket=name, Prefix=f"{folder}/lang=")["Contents"]
    tables = [
        pq.read_table(pa.BufferReader(client.get_object(Bucket=name, Key=each["Key"])["Body"].read())) for each in found
    ]
    table = pa.concat_tables(tables)
    return table.take(pa.compute.sort_indices(table, sort_keys=[("id", "ascending")]))


def objects(minio, bucket, prefix=""):
    client, name = minio.client(), bucket.removeprefix("s3://")
    keys = [each["Key"] for each in client.list_objects_v2(Bucket=name, Prefix=prefix).get("Contents", [])]
    return {key: client.get_object(Bucket=name, Key=key)["Body"].read() for key in keys}


def job(tmp_path, bucket, models, **more):
    return lake.write_job(tmp_path, lake.job(f"{bucket}/in", f"{bucket}/out", models, **more))


def expected(tmp_path, models):
    lake.execute(lake.job(tmp_path / "in", tmp_path / "local", models))
    return lake.read(tmp_path / "local")


@pytest.mark.usefixtures("settings_of_the_process")
def test_over_a_bad_network_and_after_a_kill_the_rows_are_those_of_a_local_run(
    minio, between, bucket, tmp_path, models, capsys
):
    file = job(tmp_path, bucket, models)
    bad_network(between)
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "run", str(file), "--quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    until = time.monotonic() + 150
    while not objects(minio, bucket, "out/_nightscribe/staged/files"):
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < until
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert cli.main(["run", str(file), "--quiet"]) == 0
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (report["rows_in"], report["rows_out"]) == (FILES * ROWS, FILES * ROWS)
    assert len(between.hit) > 5
    wanted = expected(tmp_path, models)
    assert read(minio, bucket).select(wanted.schema.names).equals(wanted)
    between.faults = []
    assert cli.main(["run", str(file), "--quiet"]) == 0
    again = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (again["rows_in"], again["shards_skipped"]) == (0, FILES)


@pytest.mark.usefixtures("settings_of_the_process")
def test_requests_are_counted_as_they_were_sent(minio, between, bucket, tmp_path, models, capsys):
    from jobs.store import requests

    requests.taken()
    between.forget()
    assert cli.main(["run", str(job(tmp_path, bucket, models)), "--quiet"]) == 0
    counted = json.loads(capsys.readouterr().out.splitlines()[-1])["store_requests"]
    lists = sum("list-type" in each.path for each in between.requests)
    # After it has counted, a run deletes the files of its progress, writes the report and gives the lease back.
    assert lists - 15 <= counted["lists"] <= lists
    assert between.count("HEAD") - 15 <= counted["heads"] <= between.count("HEAD")
    assert between.count("PUT") - 15 <= counted["puts"] <= between.count("PUT")
    assert counted["gets"] <= between.count("GET") - lists
    assert counted["gets"] >= 2 * FILES
    size = sum(len(content) for content in objects(minio, bucket, "in/").values())
    assert size < counted["received"] < 3 * size


@pytest.mark.usefixtures("settings_of_the_process")
def test_no_key_is_in_the_sink_or_in_what_is_printed(minio, bucket, tmp_path, models, monkeypatch, capfd):
    given = minio.client("sts").assume_role(RoleArn=ROLE, RoleSessionName="night")["Credentials"]
    with s3.pointed_to(minio.address, given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]):
        file = job(tmp_path, bucket, models)
        assert cli.main(["plan", str(file)]) == 0
        assert cli.main(["run", str(file)]) == 0
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-" + given["SecretAccessKey"])
        fsspec.get_filesystem_class("s3").clear_instance_cache()
        assert cli.main(["run", str(file)]) != 0
    printed = capfd.readouterr()
    for secret in (given["SecretAccessKey"], given["SessionToken"], PASSWORD):
        assert secret not in printed.out + printed.err
        assert not [key for key, content in objects(minio, bucket).items() if secret.encode() in content]


def restricted(minio, *denied):
    """Credentials that may do everything but this."""
    policy = {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": ["s3:*"], "Resource": ["arn:aws:s3:::*"]},
            {"Effect": "Deny", "Action": list(denied), "Resource": ["arn:aws:s3:::*"]},
        ],
    }
    sts = minio.client("sts")
    given = sts.assume_role(RoleArn=ROLE, RoleSessionName="night", Policy=json.dumps(policy))["Credentials"]
    return given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"]


@pytest.mark.usefixtures("settings_of_the_process")
@pytest.mark.parametrize("key", ["source.path", "sink.path"])
def test_a_bucket_that_may_not_be_listed_is_refused_in_one_sentence_and_nothing_is_written(
    minio, bucket, tmp_path, models, capsys, key
):
    source, sink = (f"{bucket}/in", tmp_path / "out") if key == "source.path" else (tmp_path / "in", f"{bucket}/out")
    file = lake.write_job(tmp_path, lake.job(source, sink, models))
    with s3.pointed_to(minio.address, *restricted(minio, "s3:ListBucket")):
        assert cli.main(["run", str(file)]) != 0
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert key in told
    assert "denied" in told
    assert not objects(minio, bucket, "out/")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("settings_of_the_process")
def test_a_bucket_that_may_not_be_written_is_refused_in_one_sentence(minio, bucket, tmp_path, models, capsys):
    with s3.pointed_to(minio.address, *restricted(minio, "s3:PutObject")):
        assert cli.main(["run", str(job(tmp_path, bucket, models))]) != 0
    told = capsys.readouterr().err.strip()
    assert "\n" not in told
    assert "access denied; check the credentials of this process" in told
