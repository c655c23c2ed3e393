"""Scores -> the probability of being right."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluation import calibration
from transforms.tasks.classify import LABEL
from transforms.tasks.ner import ENTITY


def corrected(n, seed=0):
    """Scores whose log-odds are twice too large, and shifted by 0.7."""
    rng = np.random.default_rng(seed)
    log_odds = rng.normal(1, 1.5, n)
    right = (rng.random(n) < 1 / (1 + np.exp(-log_odds))).astype(float)
    return 1 / (1 + np.exp(-(2 * log_odds + 0.7))), right


def test_the_slope_and_the_offset_of_the_scores_are_found():
    scores, right = corrected(50_000)
    found = calibration.fit(scores, right, np.ones(50_000))
    assert found.slope == pytest.approx(0.5, abs=0.02)
    assert found.offset == pytest.approx(-0.35, abs=0.05)


def test_rows_that_were_drawn_more_often_do_not_shift_the_calibration():
    scores, right = corrected(100_000)
    chance = np.where(right == 0, 0.9, 0.3)
    drawn = np.random.default_rng(1).random(100_000) < chance
    plain = calibration.fit(scores[drawn], right[drawn], np.ones(drawn.sum()))
    weighted = calibration.fit(scores[drawn], right[drawn], 1 / chance[drawn])
    assert weighted(scores).mean() == pytest.approx(right.mean(), abs=0.01)
    assert plain(scores).mean() < right.mean() - 0.1


def test_partly_right_rows_count_by_their_share():
    scores = np.tile([0.2, 0.8], 200)
    found = calibration.fit(scores, np.tile([0.25, 0.75], 200), np.ones(400))
    assert found(np.array([0.2, 0.8])) == pytest.approx([0.25, 0.75], abs=0.02)


@pytest.mark.parametrize("correct", [np.ones(50), np.zeros(50)])
def test_rows_that_are_all_right_or_all_wrong_give_one_chance_near_it(correct):
    found = calibration.fit(np.linspace(0.1, 0.9, 50), correct, np.ones(50))
    assert found.slope == 0
    assert abs(found(np.array([0.5]))[0] - correct[0]) == pytest.approx(0.5 / 51)


def test_a_row_without_a_score_gets_the_mean():
    scores, right = corrected(1000)
    found = calibration.fit(scores, right, np.ones(1000))
    assert found(np.array([np.nan]))[0] == pytest.approx(right.mean(), abs=0.01)


def test_scores_of_one_and_zero_are_allowed():
    chances = calibration.Calibration(1.0, 0.0, 0.5)(np.array([0.0, 1.0]))
    assert chances == pytest.approx([1e-4, 1 - 1e-4])


def test_the_table_compares_scores_with_accuracies():
    scores = np.array([0.15, 0.15, 0.95, 0.95, np.nan])
    right = np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    low, high = calibration.table(scores, right, np.array([0.1, 0.3, 0.1, 0.1, 0.1]))
    assert (low.low, low.corrected, low.score) == (0.1, 2, pytest.approx(0.15))
    # Weights 10 and 10 / 3.
    assert low.accuracy == pytest.approx(0.25)
    assert (high.high, high.accuracy) == (1.0, 1.0)
    assert calibration.error([low, high]) == pytest.approx((0.1 + 0.05) / 2)
    assert calibration.error([low, high], [0.9, 0.1]) == pytest.approx(0.9 * 0.1 + 0.1 * 0.05)


def test_scores_are_read_from_the_column_of_each_task():
    label = pa.array([{"label": "a", "score": 0.5}, None], LABEL)
    assert calibration.scores_of(label) == pytest.approx([0.5, np.nan], nan_ok=True)
    ranked = pa.array([[{"label": "a", "score": 0.75}, {"label": "b", "score": 0.25}], []], pa.list_(LABEL))
    assert calibration.scores_of(ranked) == pytest.approx([0.75, np.nan], nan_ok=True)
    entity = [{"label": "A", "text": "", "start": 0, "end": 1, "score": score} for score in (0.75, 0.25)]
    assert calibration.scores_of(pa.array([entity, []], pa.list_(ENTITY))) == pytest.approx([0.25, np.nan], nan_ok=True)
    assert np.isnan(calibration.scores_of(pa.array(["text"]))).all()
