"""One thread for each child process: two of them on a busy machine wait for each other at every small product."""

import pytest


@pytest.fixture(autouse=True)
def one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
