"""The gate over many nights, simulated: its errors, its power, and the coverage of its confidence sequence.

The wealth of a bet is a product over rows, so a night's part of it follows from how many of its labels are 1, -1 and 0,
and all series are simulated at once.
"""

import math

import numpy as np
import pytest
from scipy.stats import binom

from jobs.gate import eprocess
from jobs.gate.decision import Evaluated, decide
from jobs.gate.eprocess import Draw
from jobs.gate.ring import Ring
from jobs.gate.spec import GateSpec
from jobs.gate.thresholds import log_threshold

SERIES, NIGHTS, LABELS = 400, 200, 50


def log_e_values(rng, series, nights, better, worse, mean=0.0, sign=1):
    """The log e-value of each series after each night, `(series, nights)`."""
    won = np.stack([eprocess.log_wealth([Draw.whole([d])], mean, sign) for d in (1.0, -1.0, 0.0)])
    counts = rng.multinomial(LABELS, [better, worse, 1 - better - worse], size=(series, nights))
    return eprocess.log_mean(np.cumsum(counts @ won, axis=1))


def first(reached):
    """The number of the first night that is reached in each series; infinity if none is."""
    return np.where(reached.any(axis=1), reached.argmax(axis=1) + 1, math.inf)


def most(series, share):
    """As many of the series as a share that is not exceeded gives with a probability of 99.9 %."""
    return binom.ppf(0.999, series, share)


@pytest.mark.parametrize("stay", [1, 5, 20, 200])
@pytest.mark.parametrize(("better", "worse"), [(0.4, 0.4), (0.5, 0.5), (0.05, 0.05)])
def test_at_most_5_percent_of_series_promote_any_challenger_if_none_is_better(stay, better, worse):
    """400 series of 200 nights; a challenger that is not proven after some nights is withdrawn for the next."""
    rng, promoted = np.random.default_rng(stay), np.zeros(SERIES, bool)
    for number in range(1, NIGHTS // stay + 1):
        e = log_e_values(rng, SERIES, stay, better, worse)
        promoted |= (e >= log_threshold(number, 0, 0.95)).any(axis=1)
    assert promoted.sum() <= 0.05 * SERIES


def test_the_error_of_a_single_challenger_is_bounded_in_many_series():
    e = log_e_values(np.random.default_rng(0), 20_000, NIGHTS, 0.5, 0.5)
    assert (e >= log_threshold(1, 0, 0.95)).any(axis=1).sum() <= most(20_000, 1 / 40)


def test_the_share_of_false_promotions_is_at_most_5_percent_if_some_challengers_are_better():
    """Every third challenger is better; promotions lower the threshold of later ones."""
    rng, shares, found = np.random.default_rng(1), [], 0
    for _ in range(SERIES):
        promotions, false = 0, 0
        for number in range(1, 41):
            good = number % 3 == 0
            e = log_e_values(rng, 1, 5, *((0.6, 0.2) if good else (0.4, 0.4)))
            if (e >= log_threshold(number, promotions, 0.95)).any():
                promotions, false = promotions + 1, false + (not good)
        shares.append(false / max(1, promotions))
        found += promotions - false
    assert np.mean(shares) <= 0.05
    assert found > 0.9 * SERIES * 13


@pytest.mark.parametrize("number", [1, 10])
def test_a_gain_of_two_points_is_proven_within_15_nights_of_50_labels(number):
    """The two answer 10 % of the rows differently: the challenger is right on 55 % of those, the champion on 35 %."""
    e = log_e_values(np.random.default_rng(2), SERIES, 60, 0.55, 0.35)
    nights = first(e >= log_threshold(number, 0, 0.95))
    assert np.median(nights) <= 15
    assert np.quantile(nights, 0.95) <= 30


def test_labels_of_all_rows_take_longer_than_labels_where_the_two_differ():
    rng = np.random.default_rng(3)
    everywhere = first(log_e_values(rng, SERIES, NIGHTS, 0.055, 0.035) >= log_threshold(1, 0, 0.95))
    differing = first(log_e_values(rng, SERIES, NIGHTS, 0.55, 0.35) >= log_threshold(1, 0, 0.95))
    assert np.median(everywhere) > 2 * np.median(differing)


@pytest.mark.parametrize(("better", "worse"), [(0.5, 0.3), (0.1, 0.02), (0.45, 0.45), (0.1, 0.7)])
def test_the_confidence_sequence_contains_the_gain_on_all_nights_at_its_level(better, worse):
    """The gain is outside on some night if one of the two bets against the true gain reaches 2 / alpha."""
    rng, true, limit = np.random.default_rng(4), better - worse, math.log(2 / 0.05)
    above = (log_e_values(rng, 2_000, NIGHTS, better, worse, true) >= limit).any(axis=1)
    below = (log_e_values(rng, 2_000, NIGHTS, better, worse, true, -1) >= limit).any(axis=1)
    assert above.sum() + below.sum() <= most(2_000, 0.05)


def test_the_interval_of_rows_drawn_with_unequal_probabilities_covers_and_narrows():
    rng, missed, widths = np.random.default_rng(5), 0, []
    chances = np.where(np.arange(600) % 3 == 0, 0.3, 0.1)
    for _ in range(60):
        draws, ends = [], []
        for _ in range(6):
            # Rows that are drawn more often are better for the challenger: an unweighted mean would be biased.
            d = rng.permutation(np.repeat([1.0, -1.0, 0.0], [60, 30, 110]))
            e = rng.permutation(np.repeat([1.0, -1.0, 0.0], [60, 90, 250]))
            rows = np.empty(600)
            rows[chances == 0.3], rows[chances == 0.1] = d, e
            drawn = rng.random(600) < chances
            draws.append(Draw(tuple(rows[drawn]), tuple(chances[drawn]), int((~drawn).sum()), 0.1))
            ends.append(eprocess.interval(draws, 0.95))
        missed += any(not low <= 0.0 <= high for low, high in ends)
        widths.append([high - low for low, high in ends])
    assert missed <= most(60, 0.05)
    assert np.mean(widths, axis=0)[5] < 0.5 * np.mean(widths, axis=0)[0]


def test_a_challenger_trained_on_shuffled_labels_is_refused_after_a_night():
    """It is right on one row in twenty, the champion on 18."""
    rng, gate = np.random.default_rng(6), GateSpec()
    for series in range(50):
        ring = Ring().enter("b", "a", "2026-01-01T00:00:00Z")
        draw = Draw.whole(rng.choice([1.0, -1.0, 0.0], LABELS, p=[0.02, 0.9, 0.08]))
        ring = ring.add("b", draw, [f"{series} {i}" for i in range(LABELS)], "2026-01-02T00:00:00Z")
        found = decide(gate, Evaluated("b", "macro_f1", 0.05, 0.88, "a", changed=900), ring)
        assert found.decision == "refused"
        assert found.gain_high < 0


def test_a_series_of_decisions_promotes_a_better_challenger_and_says_how_far_it_is():
    rng, gate = np.random.default_rng(7), GateSpec(floor=0.8)
    ring, decisions = Ring().enter("b", "a", "2026-01-01T00:00:00Z"), []
    for night in range(2, 31):
        draw = Draw(tuple(rng.choice([1.0, -1.0, 0.0], LABELS, p=[0.55, 0.35, 0.1])), (0.1,) * LABELS, 4_950, 0.1)
        ring = ring.add("b", draw, [f"{night} {i}" for i in range(LABELS)], f"2026-01-{night:02}T00:00:00Z")
        decisions.append(decide(gate, Evaluated("b", "macro_f1", 0.9, 0.88, "a", changed=500), ring))
        if decisions[-1].decision == "promoted":
            break
    assert {found.decision for found in decisions[:-1]} == {"waiting"}
    assert decisions[-1].decision == "promoted"
    assert 0 < decisions[-1].gain_low < 0.02 < decisions[-1].gain_high
