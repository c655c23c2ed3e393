"""An empty store of each kind: a local folder, memory, and a bucket on an S3 server."""

from __future__ import annotations

import uuid

import pytest

from jobs.store import Store
from tests import s3


@pytest.fixture(scope="module")
def bucket():
    with s3.server():
        yield "s3://lake"


@pytest.fixture(params=["local", "memory", "s3"])
def store(request, tmp_path):
    if request.param == "local":
        return Store(str(tmp_path / "sink"))
    if request.param == "memory":
        return Store(f"memory://{uuid.uuid4().hex}")
    return Store(f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}")
