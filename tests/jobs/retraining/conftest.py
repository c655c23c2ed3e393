"""Trainings of a file of tests that are done once: a round does not repeat those that its registry's folder has."""

import shutil

import pytest


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Trainings that earlier tests of the file have finished."""
    return tmp_path_factory.mktemp("finished")


@pytest.fixture
def trainings(tmp_path, finished):
    """The folder of trainings of the registry of the test, with those of earlier tests."""
    place = tmp_path / "registry" / "_training"
    shutil.copytree(finished, place)
    yield place
    for result in place.glob("*/result.json"):
        shutil.copytree(result.parent, finished / result.parent.name, dirs_exist_ok=True)
