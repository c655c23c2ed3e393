"""Trainings in the process of the test: a child process imports for eight seconds, and test_train.py has its tests."""

import pytest
import torch

from jobs.training import child, supervise
from jobs.training.request import Request


@pytest.fixture
def in_process(monkeypatch):
    """Train in this process, with one thread: two of them wait for each other at every small product."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    monkeypatch.setattr(supervise, "supervise", lambda folder, watch, stop: child.learn(folder, Request.read(folder)))
    yield
    torch.set_num_threads(threads)
