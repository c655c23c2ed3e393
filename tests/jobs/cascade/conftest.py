"""A smaller model for each of some models, and a job that asks one first."""

import pytest

from tests import cascades


@pytest.fixture(scope="module")
def pairs(tmp_path_factory, models):
    """A smaller model for some of the models, by its name."""
    root = tmp_path_factory.mktemp("small")
    # Random models agree on all entities of a text, and on all labels, only if they are very much alike.
    noise = {"sentiment": 0.02, "topics": 0.01, "spam": 0.02, "ner": 0.001, "nli": 0.005}
    return {name: cascades.like(models / name, root / name, each) for name, each in noise.items()}


@pytest.fixture
def made(tmp_path, models, pairs):
    """A lake of 400 rows, and a job over it that asks the smaller model of sentiment first."""
    cascades.write(tmp_path / "in")
    return cascades.job(tmp_path, models / "sentiment", pairs["sentiment"])
