"""A Hub that ignores the parent of a commit is recognised, and nothing of the attempt is left."""

from __future__ import annotations

import uuid

import pytest

from jobs.hub import probe, session
from tests.hub.local import Hub


@pytest.mark.parametrize("ignores", [False, True])
@pytest.mark.parametrize("exists", [False, True])
def test_a_hub_that_ignores_the_parent_is_recognised_and_left_as_it_was(hub: Hub, monkeypatch, ignores, exists):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    hub.ignores_parent = ignores
    name = f"org/{uuid.uuid4().hex}"
    if exists:
        repository = hub.repository("model", name, {"a.txt": b"a"})
        before = repository.head
    assert probe.keeps_parent(session.api(), name, "model") is not ignores
    assert list(hub.repositories) == ([("model", name)] if exists else [])
    if exists:
        assert repository.branches == {"main": before}


def test_a_hub_that_passed_is_not_asked_again(hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    name = f"org/{uuid.uuid4().hex}"
    hub.repository("dataset", name)
    assert probe.keeps_parent(session.api(), name, "dataset")
    hub.requests.clear()
    assert probe.keeps_parent(session.api(), name, "dataset")
    assert hub.requests == []


def test_a_failure_that_passes_does_not_end_the_probe(hub: Hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    monkeypatch.setattr(probe, "PAUSES_S", (0.0,))
    name = f"org/{uuid.uuid4().hex}"
    hub.repository("model", name)
    hub.faults.status(503, "POST .*/commit/")
    assert probe.keeps_parent(session.api(), name, "model")
