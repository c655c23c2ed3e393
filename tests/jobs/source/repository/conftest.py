"""A dataset on the Hub that is made by the test."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import pytest

from jobs.hub import ranges
from tests.hub.hub import Hub
from tests.hub.repositories import Repository


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(ranges, "MAX_WAIT_S", 0.01)


@pytest.fixture
def dataset(hub: Hub) -> Callable[..., Repository]:
    """Makes a repository with these files."""
    return lambda content, **options: hub.repository("dataset", f"org/{uuid.uuid4().hex}", content, **options)
