import numpy as np
import pytest

from jobs.review.draw import draw, draw_alike

KEYS = [f"row {number}" for number in range(200)]
SCORES = np.linspace(0, 1, 200)


@pytest.mark.parametrize("by", ["random", "mixed", "uncertain"])
@pytest.mark.parametrize("rows", [1, 50, 190, 200, 500])
def test_probabilities_sum_to_the_rows_asked_for_or_to_all_rows(by, rows):
    probability = draw(KEYS, SCORES, rows, by, "a").probability
    assert probability.sum() == pytest.approx(min(rows, 200))
    assert probability.min() > 0
    assert probability.max() <= 1 + 1e-12


@pytest.mark.parametrize("by", ["random", "mixed", "uncertain"])
def test_rows_are_drawn_as_often_as_their_probability_says(by):
    seeds = 3000
    taken = np.zeros(200)
    for seed in range(seeds):
        found = draw(KEYS, SCORES, 60, by, str(seed))
        taken += found.uniform | found.uncertain
    wanted = found.probability
    error = (taken / seeds - wanted) / np.sqrt(np.maximum(wanted * (1 - wanted), 1e-4) / seeds)
    assert np.abs(error).max() < 5


def test_half_of_a_mixed_draw_is_uniform():
    drawn = [draw(KEYS, SCORES, 60, "mixed", str(seed)) for seed in range(1000)]
    assert np.mean([each.uniform.sum() for each in drawn]) == pytest.approx(30, abs=1)
    assert not any((each.uniform & each.uncertain).any() for each in drawn)


def test_the_same_seed_draws_the_same_rows_in_any_order_of_rows():
    first, again = draw(KEYS, SCORES, 60, "mixed", "a"), draw(KEYS[::-1], SCORES[::-1], 60, "mixed", "a")
    np.testing.assert_array_equal(first.uniform, again.uniform[::-1])
    np.testing.assert_array_equal(first.uncertain, again.uncertain[::-1])


def test_a_row_without_a_score_counts_as_most_uncertain():
    found = draw(["a", "b", "c"], np.array([np.nan, 0.5, 0.9]), 1, "uncertain", "a").probability
    assert found[0] == found[1] > found[2]


def test_nothing_is_drawn_from_a_night_without_rows():
    assert len(draw([], np.zeros(0), 60, "mixed", "a").probability) == 0


def test_a_second_draw_among_the_rows_that_are_left_is_independent_of_the_first():
    left = drawn = 0
    for seed in map(str, range(2000)):
        rest = [
            key for key, taken in zip(KEYS, draw(KEYS, SCORES, 30, "random", seed).uniform, strict=True) if not taken
        ]
        near, _ = draw_alike(rest, 100, f"{seed}/looked at")
        found, probability = draw_alike(
            [key for key, close in zip(rest, near, strict=True) if close], 25, f"{seed}/difference"
        )
        left += len(found) * probability
        drawn += found.sum()
    assert drawn == pytest.approx(left, abs=5 * np.sqrt(left))


def test_all_rows_are_drawn_if_there_are_fewer_than_are_wanted():
    found, probability = draw_alike(KEYS, 500, "a")
    assert found.all()
    assert probability == 1
    assert draw_alike([], 5, "a")[1] == 1
