"""A name on the Hub, and nights of a job that publishes there."""

from __future__ import annotations

import uuid

import pytest

from jobs.sink import publish
from tests.hub.hub import Hub
from tests.jobs.sink.dataset.published import job


@pytest.fixture
def name(hub: Hub, monkeypatch):
    """A dataset that does not exist, and a token that may create it."""
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    monkeypatch.setattr(publish, "PAUSE_S", 0.01)
    return f"org/{uuid.uuid4().hex}"


@pytest.fixture
def night(tmp_path, hub, name, run_once):
    """Runs the job; the repository as it is then."""

    def call(folder="in", job_name="nightly", into="nothing", tasks=(), **sink):
        return run_once(job(tmp_path, name, folder, job_name, into, tasks, **sink))

    call.head = lambda: hub.repositories["dataset", name].files()
    call.commits = lambda: len(hub.repositories["dataset", name].history("main"))
    call.commit = lambda files: hub.repositories["dataset", name].commit(files)
    return call
