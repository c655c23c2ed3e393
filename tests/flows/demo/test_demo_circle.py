"""The training loop of the demo, on a base of its own size."""

import pytest
from prefect.testing.utilities import prefect_test_harness

from flows.demo import circle, shop
from jobs.registry import Registry


def test_reviews_are_the_same_each_time_and_have_every_label(tmp_path):
    made = shop.make(tmp_path)
    assert made.truth == shop.make(tmp_path).truth
    assert set(made.truth.values()) == set(shop.WORDS)
    made.open_week(1)
    assert [file.name for file in made.reviews.iterdir()] == ["week-1.parquet"]


@pytest.fixture
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


# Two trainings of models for the fixture, two of adapters, four nights: two minutes on an idle machine.
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("server")
def test_labels_of_a_night_make_the_next_one_better_and_the_promotion_can_be_undone(tmp_path, trained, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    said = []
    found = circle.close(tmp_path / "shop", trained.classify, said.append)
    assert found is not None
    assert found.second["approved"]
    assert found.after > found.before + 0.1
    assert found.same_bytes
    assert 200 < found.drawn < 400
    moves = [move.action for move in Registry(str(tmp_path / "shop" / "registry")).history()]
    assert moves == ["promote", "promote", "rollback", "promote"]
    assert len(said) == 7
    assert circle.close(tmp_path / "shop", trained.classify, said.append) is None
