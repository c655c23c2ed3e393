"""An empty store of each kind: a local folder, memory, a bucket on an S3 server, a repository of the Hub."""

from __future__ import annotations

import uuid

import pytest

from jobs.store import Store
from jobs.store.hub import HubStore
from tests import s3


@pytest.fixture(scope="module")
def bucket():
    with s3.server():
        yield "s3://lake"


@pytest.fixture(params=["local", "memory", "s3", "hub"])
def store(request, tmp_path, monkeypatch):
    if request.param == "hub":
        monkeypatch.setenv("HF_TOKEN", request.getfixturevalue("hub").token("ada"))
        return HubStore(f"hf://org/{uuid.uuid4().hex}/inside")
    if request.param == "local":
        return Store(str(tmp_path / "sink"))
    if request.param == "memory":
        return Store(f"memory://{uuid.uuid4().hex}")
    return Store(f"{request.getfixturevalue('bucket')}/{uuid.uuid4().hex}")
