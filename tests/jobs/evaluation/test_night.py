"""The interval for the accuracy of a night: it covers at its level and is narrower than the classical one."""

import json

import numpy as np
import pytest

from jobs.evaluation import night
from transforms.errors import SpecError

ROWS = 20_000


def a_night(rng, mean=1.5, noise=1.0):
    """Scores that are too sure of themselves, and whether each row is right."""
    log_odds = rng.normal(mean, 1.5, ROWS)
    right = (rng.random(ROWS) < 1 / (1 + np.exp(-log_odds))).astype(float)
    scores = 1 / (1 + np.exp(-(1.8 * log_odds + 1 + rng.normal(0, noise, ROWS))))
    return scores, right


def draw(rng, scores, count, uniform=0.5):
    """Poisson sampling: a share of the expected rows uniformly, the rest by sqrt(f(1-f))."""
    uncertainty = np.sqrt(scores * (1 - scores))
    chance = np.minimum(1, count * (uniform / ROWS + (1 - uniform) * uncertainty / uncertainty.sum()))
    drawn = np.flatnonzero(rng.random(ROWS) < chance)
    return drawn, chance[drawn]


def simulate(nights, count, mean=1.5, uniform=0.5):
    """How often both intervals cover, their mean widths, and the mean error of the estimate."""
    rng = np.random.default_rng(7)
    covered, widths, errors = np.zeros(2), np.zeros(2), []
    for seed in range(nights):
        scores, right = a_night(rng, mean)
        drawn, chance = draw(rng, scores, count, uniform)
        found = night.accuracy(scores, drawn, right[drawn], chance, seed=seed)
        for i, interval in enumerate((found.estimate, found.classical)):
            covered[i] += interval.low <= right.mean() <= interval.high
            widths[i] += interval.high - interval.low
        errors.append(found.estimate.value - right.mean())
    return covered / nights, widths / nights, np.array(errors)


# 95 % of 300 nights are 285; fewer than 273 have a chance of 1 in 1,000 if the level is right.
@pytest.mark.parametrize("uniform", [0.5, 1.0])
def test_the_interval_covers_at_its_level_and_is_narrower_than_the_classical_one(uniform):
    covered, widths, errors = simulate(300, 200, uniform=uniform)
    assert covered[0] >= 273 / 300
    assert covered[1] >= 273 / 300
    assert widths[0] < 0.92 * widths[1]
    assert abs(errors.mean()) < 4 * errors.std() / np.sqrt(len(errors))


def test_the_interval_covers_with_fifty_corrected_rows():
    covered, widths, _ = simulate(200, 50)
    assert covered[0] >= 180 / 200
    assert widths[0] < widths[1]


def test_the_interval_covers_when_mistakes_are_rare():
    # About 1.5 % mistakes: one or two among a hundred corrected rows.
    covered, _, _ = simulate(200, 100, mean=5.5)
    assert covered[0] >= 0.93


def test_scores_that_say_nothing_make_the_interval_no_wider():
    rng = np.random.default_rng(3)
    widths = []
    for seed in range(60):
        _, right = a_night(rng)
        scores = rng.random(ROWS)
        drawn, chance = draw(rng, scores, 200)
        found = night.accuracy(scores, drawn, right[drawn], chance, seed=seed)
        widths.append([i.high - i.low for i in (found.estimate, found.classical)])
    mine, classical = np.mean(widths, axis=0)
    assert mine < 1.03 * classical


def test_without_scores_the_estimate_is_the_classical_one():
    rng = np.random.default_rng(4)
    _, right = a_night(rng)
    drawn = rng.choice(ROWS, 300, replace=False)
    found = night.accuracy(np.full(ROWS, np.nan), drawn, right[drawn], np.full(300, 300 / ROWS))
    assert found.estimate.value == pytest.approx(found.classical.value, abs=0.005)
    assert found.classical.value == pytest.approx(right[drawn].mean())


def test_a_night_without_a_mistake_among_the_corrected_rows_has_an_interval():
    scores, chance = np.full(ROWS, 0.99), np.full(100, 100 / ROWS)
    found = night.accuracy(scores, np.arange(100), np.ones(100), chance)
    assert found.few
    assert found.estimate.high == 1
    # The exact binomial interval for 100 of 100 begins at 0.964.
    assert 0.95 < found.estimate.low < 0.97


def test_a_row_that_was_surely_drawn_adds_no_uncertainty():
    rng = np.random.default_rng(5)
    right = (rng.random(500) < 0.8).astype(float)
    found = night.accuracy(rng.random(500), np.arange(500), right, np.ones(500))
    assert found.classical.value == pytest.approx(right.mean())
    assert found.classical.high - found.classical.low < 0.08


def test_rows_that_wait_for_their_correction_are_taken_to_be_like_the_others():
    rng = np.random.default_rng(6)
    scores, right = a_night(rng)
    drawn, chance = draw(rng, scores, 600)
    done = rng.random(len(drawn)) < 0.5
    found = night.accuracy(scores, drawn[done], right[drawn[done]], chance[done], drawn=len(drawn))
    assert found.share == pytest.approx(done.mean())
    assert found.estimate.low < right.mean() < found.estimate.high
    assert "of the drawn rows are corrected" in found.sentence()


def test_the_result_is_a_sentence_and_json():
    rng = np.random.default_rng(8)
    scores, right = a_night(rng)
    drawn, chance = draw(rng, scores, 200)
    found = night.accuracy(scores, drawn, right[drawn], chance)
    assert f"{found.estimate.value:.1%} of the 20,000 rows are right (95% interval " in found.sentence()
    data = json.loads(json.dumps(found.to_json()))
    assert data["estimate"]["low"] == found.estimate.low
    assert data["narrower"] == pytest.approx(found.narrower)


@pytest.mark.parametrize(
    ("corrected", "correct", "chance", "said"),
    [
        ([], [], [], "no row of the night has been corrected yet"),
        ([0, 1], [1.0, 1.0], [0.5], "there are 2 corrected rows, 2 corrections and 1 drawing probabilities"),
        ([0, 0], [1.0, 1.0], [0.5, 0.5], "must be different rows among the 10 of the night"),
        ([0, 10], [1.0, 1.0], [0.5, 0.5], "must be different rows among the 10 of the night"),
        ([0], [1.0], [0.0], "has the drawing probability 0.0; it must be above 0 and at most 1"),
        ([0], [2.0], [0.5], "must be from 0"),
    ],
)
def test_corrections_that_cannot_be_used_are_refused_in_one_sentence(corrected, correct, chance, said):
    with pytest.raises(SpecError, match=said):
        night.accuracy(np.full(10, 0.5), np.array(corrected, int), np.array(correct), np.array(chance))
