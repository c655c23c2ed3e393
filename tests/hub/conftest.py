"""Tests of the Hub itself use the clients as they are installed, not with the HTTP client of this program."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest
from huggingface_hub import set_client_factory
from huggingface_hub.utils import _http


@pytest.fixture(autouse=True)
def installed_client() -> Iterator[None]:
    """The client that huggingface_hub makes by itself."""
    before = _http._GLOBAL_CLIENT_FACTORY
    set_client_factory(_http.default_client_factory)
    yield
    set_client_factory(before)


@pytest.fixture
def name() -> str:
    """A name that no other test uses: the clients cache by name."""
    return f"org/{uuid.uuid4().hex[:16]}"
