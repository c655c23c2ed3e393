"""A certified threshold keeps its promise: simulated samples with known agreement, and the smallest samples."""

import numpy as np
import pytest
from scipy import stats

from jobs.cascade import certify
from jobs.cascade.certify import Certified, least_rows, order, rows_needed, sizes

CURVES = {
    # The agreement of a row, by the confidence of the small model.
    "falls with the confidence": lambda confidence: 1 - 0.25 * (1 - confidence) ** 1.5,
    "just too low everywhere": lambda confidence: np.full_like(confidence, 0.9899),
    "falls at once": lambda confidence: np.where(confidence > 0.6, 0.9975, 0.9),
    "parts where it is unsure": lambda confidence: np.where(confidence > 0.65, 0.9995, 0.9),
    "is lowest where the confidence is highest": lambda confidence: np.where(confidence > 0.95, 0.985, 0.994),
}


def outcome(confidences, agreed, thresholds, agree=0.99, error=0.05):
    return certify.certify(confidences, np.asarray(thresholds), agree, error, lambda places: agreed[places])


def found(rng, job_rows, curve, agree=0.99, error=0.05):
    wanted = sizes(job_rows, agree, error)
    surveyed, confidences = rng.beta(4, 1, wanted.first), rng.beta(4, 1, wanted.second)
    explored, agreed = rng.random(wanted.first) < curve(surveyed), rng.random(wanted.second) < curve(confidences)
    thresholds = order(surveyed, wanted.second, agree, error, explored if wanted.explores else None)
    return outcome(confidences, agreed, thresholds, agree, error).certified


def true_agreement(curve):
    """Threshold -> the agreement of the rows at or above it, from a million of them."""
    confidences = np.sort(np.random.default_rng(1).beta(4, 1, 1_000_000))[::-1]
    mean = np.cumsum(curve(confidences)) / np.arange(1, len(confidences) + 1)
    return lambda threshold: mean[max(0, int(np.searchsorted(-confidences, -threshold, "right")) - 1)]


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("job_rows", [12_000, 1_000_000])
def test_over_many_draws_the_promise_is_broken_in_at_most_five_percent(name, job_rows):
    curve, rng, draws = CURVES[name], np.random.default_rng(2024), 300
    truth = true_agreement(curve)
    results = [found(rng, job_rows, curve) for _ in range(draws)]
    broken = sum(result is not None and truth(result.threshold) < 0.99 for result in results)
    # With a probability of exactly 0.05, more than this would be seen once in a thousand simulations.
    assert broken <= stats.binom.isf(0.001, draws, 0.05)


def test_a_model_that_agrees_often_answers_nearly_all_rows_of_a_large_job():
    rng = np.random.default_rng(5)
    results = [found(rng, 1_000_000, lambda confidence: np.full_like(confidence, 0.998)) for _ in range(50)]
    shares = [0.0 if result is None else 1 - result.threshold**4 for result in results]
    assert np.mean(shares) > 0.95


def test_rows_below_the_confidence_at_which_the_models_part_are_not_answered():
    results = [found(np.random.default_rng(i), 1_000_000, CURVES["falls at once"]) for i in range(20)]
    assert all(result is None or result.threshold > 0.45 for result in results)
    assert sum(result is not None for result in results) > 15


@pytest.mark.parametrize(
    ("agree", "confidence", "rows"), [(0.99, 0.95, 299), (0.95, 0.95, 59), (0.99, 0.99, 459), (0.999, 0.95, 2995)]
)
def test_without_a_disagreement_the_least_number_of_rows_certifies_and_one_row_less_does_not(agree, confidence, rows):
    error = 1 - confidence
    assert least_rows(agree, error) == rows
    perfect, fewer = np.ones(rows), np.ones(rows - 1)
    assert outcome(perfect, perfect > 0, [0.5], agree, error).certified == Certified(0.5, rows, rows)
    assert outcome(fewer, fewer > 0, [0.5], agree, error).certified is None


def test_the_test_ends_at_the_first_threshold_that_is_not_certified():
    # 400 sure rows agree, the next 400 do not, and the 40,000 after them do: all together would be certified.
    confidences = np.concatenate([np.full(400, 0.9), np.full(400, 0.8), np.full(40_000, 0.7)])
    agreed = np.concatenate([np.ones(400, bool), np.zeros(400, bool), np.ones(40_000, bool)])
    result = outcome(confidences, agreed, [0.9, 0.8, 0.7], 0.98)
    assert result.certified == Certified(0.9, 400, 400)


def test_the_smallest_job_that_is_large_enough_has_the_rows_that_are_named():
    for agree in (0.9, 0.99, 0.999):
        for error in (0.05, 0.01):
            fewest = rows_needed(agree, error)
            assert sizes(fewest, agree, error) is not None
            assert sizes(int(0.97 * fewest), agree, error) is None


@pytest.mark.parametrize(("rows", "share"), [(3_000, 0.2), (10_000, 0.1), (50_000, 0.1), (10_000_000, 0.001)])
def test_at_most_a_fifth_of_the_rows_of_a_small_job_and_a_tenth_of_a_large_one_are_compared(rows, share):
    wanted = sizes(rows, 0.99, 0.05)
    assert wanted.second + wanted.explores * wanted.first <= share * rows


@pytest.mark.parametrize(("rows", "share"), [(9_000, 0.6), (12_000, 0.55), (15_000, 0.5), (100_000, 0.99)])
def test_if_some_of_the_drawn_rows_have_no_text_both_samples_are_smaller(rows, share):
    wanted = sizes(rows, 0.99, 0.025)
    drawn = int(share * (wanted.first + wanted.second))
    found = sizes(int(share * rows), 0.99, 0.025, drawn)
    assert found.first + found.second == drawn
    assert found.first / found.second == pytest.approx(wanted.first / wanted.second, rel=0.25)
    assert found.explores == wanted.explores


def test_most_models_that_agree_on_the_sure_rows_are_certified_in_a_job_of_6000_rows():
    results = [found(np.random.default_rng(i), 6_000, CURVES["parts where it is unsure"]) for i in range(50)]
    shares = [0.0 if result is None else 1 - result.threshold**4 for result in results]
    assert np.mean(shares) > 0.5


def test_models_that_never_agree_are_compared_on_one_piece_of_the_sample():
    confidences = np.random.default_rng(0).random(1500)
    thresholds = order(confidences[:500], 1500, 0.99, 0.05)
    result = outcome(confidences, np.zeros(1500, bool), thresholds)
    assert len(thresholds) > 1
    assert (result.certified, result.agreed) == (None, 0)
    assert result.compared <= 1500 / certify.PIECES + 1


@pytest.mark.parametrize("seed", range(5))
def test_comparing_piece_by_piece_finds_what_comparing_all_rows_finds(seed):
    rng = np.random.default_rng(seed)
    confidences = rng.beta(4, 1, 2_000)
    agreed = rng.random(2_000) < np.where(confidences > 0.7, 0.9995, 0.7)
    thresholds = order(rng.beta(4, 1, 1_000), 2_000, 0.99, 0.05)
    expected = None
    for threshold in thresholds:
        answered = confidences >= threshold
        if stats.binom.sf(agreed[answered].sum() - 1, answered.sum(), 0.99) > 0.05:
            break
        expected = Certified(float(threshold), int(answered.sum()), int(agreed[answered].sum()))
    result = outcome(confidences, agreed, thresholds)
    assert result.certified == expected is not None
    # The rows of which the smaller model is least sure are left out.
    assert result.compared < 2_000


def test_rows_that_the_small_model_cannot_answer_are_never_answered():
    confidences = np.concatenate([np.full(100, -np.inf), np.ones(400)])
    thresholds = order(confidences, 1500, 0.9, 0.05)
    assert np.isfinite(thresholds).all()
    assert outcome(confidences, confidences > 0, thresholds, 0.9).certified.answered == 400
    assert not len(order(np.full(500, -np.inf), 1500, 0.9, 0.05))
