"""Evidence for a gain: what it is, what it refuses, and how the number of further labels is estimated."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.gate import eprocess
from jobs.gate.eprocess import FRACTIONS, HORIZON, Draw
from jobs.gate.thresholds import threshold


def night(rng, better, worse, labels=50):
    """Labels of rows that the two versions answer differently."""
    return Draw.whole(rng.choice([1.0, -1.0, 0.0], labels, p=[better, worse, 1 - better - worse]))


def test_the_e_value_is_the_mean_of_the_bets():
    draws = [Draw.whole([1.0, -1.0]), Draw.whole([0.5])]
    bets = [(1 + b) * (1 - b) * (1 + b / 2) for b in FRACTIONS]
    assert math.exp(eprocess.log_e_value(draws, 0.0)) == pytest.approx(np.mean(bets))
    bets = [math.prod(1 + b / 1.1 * (d - 0.1) for d in (1, -1, 0.5)) for b in FRACTIONS]
    assert math.exp(eprocess.log_e_value(draws, 0.1)) == pytest.approx(np.mean(bets))


def test_no_evidence_is_an_e_value_of_one():
    assert eprocess.log_e_value([], 0.0) == 0.0
    assert eprocess.gain([]) is None
    assert eprocess.interval([], 0.95) == (-1.0, 1.0)


def test_rows_that_both_answer_alike_count_as_zero_without_a_label():
    labelled = [Draw.whole([1.0, 1.0, 0.0, 0.0, 0.0])]
    unlabelled = [Draw((1.0, 1.0), (1.0, 1.0), others=3)]
    for mean in (0.0, 0.1):
        assert eprocess.log_e_value(unlabelled, mean) == pytest.approx(eprocess.log_e_value(labelled, mean))
    assert eprocess.gain(unlabelled) == eprocess.gain(labelled) == pytest.approx(0.4)


@given(
    st.lists(
        st.tuples(st.sampled_from([-1.0, -0.3, 0.0, 0.4, 1.0]), st.sampled_from([0.1, 0.35, 1.0])),
        min_size=1,
        max_size=6,
    )
)
def test_the_expected_e_value_of_a_weighted_draw_is_at_most_one(population):
    """Every outcome of the draw of a small population, each with its probability; the gain is exactly the limit."""
    mean = float(np.mean([d for d, _ in population]))
    smallest = min(p for _, p in population)
    expected = {1: 0.0, -1: 0.0}
    for drawn in itertools.product([True, False], repeat=len(population)):
        chance = math.prod(p if taken else 1 - p for taken, (_, p) in zip(drawn, population, strict=True))
        rows = [row for taken, row in zip(drawn, population, strict=True) if taken]
        draw = Draw(tuple(d for d, _ in rows), tuple(p for _, p in rows), len(population) - len(rows), smallest)
        for sign in expected:
            if -1 < mean < 1:
                expected[sign] += chance * math.exp(eprocess.log_e_value([draw], mean, sign))
    assert max(expected.values()) <= 1 + 1e-9


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
    ("differences", "probabilities", "others", "smallest", "message"),
    [
        ([1.5], [1.0], 0, 1.0, "outside of -1 to 1"),
        ([math.nan], [1.0], 0, 1.0, "outside of -1 to 1"),
        ([1.0], [0.0], 0, 0.1, "drawing probability"),
        ([1.0], [0.05], 0, 0.1, "drawing probability"),
        ([1.0], [1.0], 0, 0.0, "drawing probability"),
        ([1.0], [], 0, 1.0, "have 0 probabilities"),
        ([1.0], [1.0], -1, 1.0, "others is -1"),
    ],
)
def test_impossible_evidence_is_refused(differences, probabilities, others, smallest, message):
    with pytest.raises(ValueError, match=message):
        Draw(tuple(differences), tuple(probabilities), others, smallest)


def test_a_draw_is_the_same_after_a_round_trip_through_json():
    draw = Draw((1.0, -0.5), (0.5, 0.25), 7, 0.25)
    assert Draw.from_json(draw.to_json()) == draw


def test_the_ends_of_the_interval_are_the_gains_that_are_just_refuted():
    draws = [night(np.random.default_rng(1), 0.5, 0.3), Draw((1.0, -1.0), (0.5, 0.25), 20, 0.25)]
    low, high = eprocess.interval(draws, 0.95)
    assert low < eprocess.gain(draws) < high
    assert eprocess.log_e_value(draws, low) == pytest.approx(math.log(40), abs=1e-3)
    assert eprocess.log_e_value(draws, high, sign=-1) == pytest.approx(math.log(40), abs=1e-3)


def test_the_interval_of_the_opposite_evidence_is_the_opposite_interval():
    draw = night(np.random.default_rng(2), 0.5, 0.3)
    low, high = eprocess.interval([draw], 0.9)
    opposite = Draw.whole([-d for d in draw.differences])
    assert eprocess.interval([opposite], 0.9) == pytest.approx((-high, -low), abs=1e-5)


def test_the_estimate_of_further_labels_agrees_with_the_labels_that_it_takes():
    rng, limit, guesses, taken = np.random.default_rng(3), math.log(1e4), [], []
    for _ in range(40):
        draws = [night(rng, 0.55, 0.35) for _ in range(4)]
        guesses.append(eprocess.labels_needed(draws, 0.0, limit) or HORIZON)
        while eprocess.log_e_value(draws, 0.0) < limit:
            draws.append(night(rng, 0.55, 0.35))
        taken.append((len(draws) - 4) * 50)
    assert np.median(taken) / 2 <= np.median(guesses) <= np.median(taken) * 2


def test_further_labels_are_not_foreseeable_without_a_gain_or_without_evidence():
    limit = math.log(40)
    assert eprocess.labels_needed([Draw.whole([-1.0, 0.0])], 0.0, limit) is None
    assert eprocess.labels_needed([Draw.whole([1.0, -1.0] * 20)], 0.0, limit) is None
    assert eprocess.labels_needed([Draw.whole([0.0])], 0.0, limit) is None
    assert eprocess.labels_needed([], 0.0, limit) is None


def test_three_lucky_labels_do_not_promise_a_quick_end():
    lucky = eprocess.labels_needed([Draw.whole([1.0] * 3)], 0.0, math.log(40))
    assert lucky >= 10
    assert eprocess.labels_needed([Draw((1.0,) * 3, (0.2,) * 3, 12, 0.2)], 0.0, math.log(40)) >= 10


def test_later_challengers_need_more_evidence_and_promotions_lower_it():
    assert threshold(1, 0, 0.95) == pytest.approx(40)
    assert threshold(3, 0, 0.95) == pytest.approx(240)
    assert threshold(3, 2, 0.95) == pytest.approx(80)
    with pytest.raises(ValueError, match="impossible"):
        threshold(2, 2, 0.95)
