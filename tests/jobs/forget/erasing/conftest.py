"""A lake with the rows of a person."""

import pytest

from tests import lake
from tests.jobs.forget.erasing.ada import day, job, night


@pytest.fixture(autouse=True)
def one_thread(monkeypatch, tmp_path):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def lake_of_ada(tmp_path_factory, models):
    """A lake that no test changes."""
    folder = tmp_path_factory.mktemp("ada")
    day(folder, 1)
    content = job(folder, models / "sentiment")
    night(folder, content)
    lake.write_job(folder, content)
    return folder, content
