"""Evidence that may be looked at every night: its error, its power, and what it refuses."""

import math

import numpy as np
import pytest

from jobs.gate import eprocess
from jobs.gate.eprocess import FRACTIONS, Draw
from jobs.gate.thresholds import log_threshold, threshold

LABELS = 50
SERIES = 400


def night(rng, better, worse):
    """Fifty labels of rows that the two versions answer differently."""
    return Draw.whole(rng.choice([1.0, -1.0, 0.0], LABELS, p=[better, worse, 1 - better - worse]))


def test_the_e_value_is_the_mean_of_the_bets():
    draws = [Draw.whole([1.0, -1.0]), Draw.whole([0.5])]
    bets = [(1 + b) * (1 - b) * (1 + b / 2) for b in FRACTIONS]
    assert math.exp(eprocess.log_e_value(draws, 0.0)) == pytest.approx(np.mean(bets))


def test_no_evidence_is_an_e_value_of_one():
    assert eprocess.log_e_value([], 0.0) == 0.0
    assert eprocess.gain([]) is None


def test_rows_that_both_answer_alike_count_as_zero_without_a_label():
    labelled = [Draw.whole([1.0, 1.0, 0.0, 0.0, 0.0])]
    unlabelled = [Draw((1.0, 1.0), (1.0, 1.0), others=3)]
    for mean in (0.0, 0.1):
        assert eprocess.log_e_value(unlabelled, mean) == pytest.approx(eprocess.log_e_value(labelled, mean))
    assert eprocess.gain(unlabelled) == eprocess.gain(labelled) == pytest.approx(0.4)


def test_rows_that_were_drawn_rarely_count_more_in_the_estimate():
    rng = np.random.default_rng(0)
    differences = np.concatenate([np.ones(500), -np.ones(1500)])
    chances = np.where(differences > 0, 0.4, 0.1)
    estimates = []
    for _ in range(300):
        drawn = rng.random(2000) < chances
        draw = Draw(tuple(differences[drawn]), tuple(chances[drawn]), int((~drawn).sum()), smallest=0.1)
        estimates.append(eprocess.gain([draw]))
    assert np.mean(estimates) == pytest.approx(-0.5, abs=0.01)


@pytest.mark.parametrize(
    ("differences", "probabilities", "smallest", "message"),
    [
        ([1.5], [1.0], 1.0, "outside of -1 to 1"),
        ([1.0], [0.0], 0.1, "drawing probability"),
        ([1.0], [0.05], 0.1, "drawing probability"),
        ([1.0], [], 1.0, "have 0 probabilities"),
    ],
)
def test_impossible_evidence_is_refused(differences, probabilities, smallest, message):
    with pytest.raises(ValueError, match=message):
        Draw(tuple(differences), tuple(probabilities), 0, smallest)


def test_a_draw_is_the_same_after_a_round_trip_through_json():
    draw = Draw((1.0, -0.5), (0.5, 0.25), 7, 0.25)
    assert Draw.from_json(draw.to_json()) == draw


def test_at_most_5_percent_of_series_promote_any_challenger_if_none_is_better():
    """400 series of 200 nights; a challenger that is not proven within five nights is withdrawn for the next."""
    promoted = 0
    for series in range(SERIES):
        rng = np.random.default_rng(series)
        for challenger in range(1, 41):
            draws = [night(rng, 0.4, 0.4) for _ in range(5)]
            needed = log_threshold(challenger, 0, 0.95)
            if any(eprocess.log_e_value(draws[: i + 1], 0.0) >= needed for i in range(5)):
                promoted += 1
                break
    assert promoted <= 0.05 * SERIES


def test_a_challenger_that_stays_200_nights_and_is_no_better_is_promoted_in_at_most_5_percent_of_series():
    promoted = 0
    for series in range(SERIES):
        rng = np.random.default_rng(1000 + series)
        won = np.zeros(len(FRACTIONS))
        for _ in range(200):
            won += eprocess.log_wealth([night(rng, 0.4, 0.4)], 0.0)
            if np.log(np.mean(np.exp(won - won.max()))) + won.max() >= log_threshold(1, 0, 0.95):
                promoted += 1
                break
    assert promoted <= 0.05 * SERIES


def test_a_gain_of_two_points_is_proven_within_15_nights_of_50_labels():
    """The two answer 10 % of the rows differently: the challenger is right on 55 % of those, the champion on 35 %."""
    nights = []
    for series in range(100):
        rng, draws = np.random.default_rng(series), []
        while eprocess.log_e_value(draws, 0.0) < log_threshold(1, 0, 0.95):
            draws.append(night(rng, 0.55, 0.35))
        nights.append(len(draws))
    assert np.median(nights) <= 15


def test_the_interval_contains_the_gain_over_all_nights_and_narrows():
    missed, widths = 0, []
    for series in range(40):
        rng = np.random.default_rng(series)
        draws = [night(rng, 0.5, 0.3) for _ in range(6)]
        intervals = [eprocess.interval(draws[: i + 1], 0.95) for i in (0, 2, 5)]
        missed += any(not low <= 0.2 <= high for low, high in intervals)
        widths.append([high - low for low, high in intervals])
    assert missed <= 0.05 * 40
    first, middle, last = np.mean(widths, axis=0)
    assert first > middle > last


def test_further_labels_are_estimated_from_the_evidence_so_far():
    rng = np.random.default_rng(3)
    draws = [night(rng, 0.55, 0.35) for _ in range(4)]
    guessed = eprocess.labels_needed(draws, 0.0, math.log(1e6))
    assert guessed is not None
    while eprocess.log_e_value(draws, 0.0) < math.log(1e6):
        draws.append(night(rng, 0.55, 0.35))
    assert guessed / 4 < (len(draws) - 4) * LABELS < guessed * 4
    assert eprocess.labels_needed([Draw.whole([-1.0, 0.0])], 0.0, math.log(40)) is None


def test_later_challengers_need_more_evidence_and_promotions_lower_it():
    assert threshold(1, 0, 0.95) == pytest.approx(40)
    assert threshold(3, 0, 0.95) == pytest.approx(240)
    assert threshold(3, 2, 0.95) == pytest.approx(80)
    with pytest.raises(ValueError, match="impossible"):
        threshold(2, 2, 0.95)
