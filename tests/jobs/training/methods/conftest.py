"""Bases that are made once, and what each method learnt from them."""

import functools

import pytest

from tests.jobs.training.methods import bases


@pytest.fixture(scope="session")
def base(tmp_path_factory):
    """The folder of a base by its family."""
    root = tmp_path_factory.mktemp("bases")

    @functools.cache
    def made(family):
        return (bases.encoder if family in bases.ENCODERS else bases.writer)(root / family, family)

    return made
