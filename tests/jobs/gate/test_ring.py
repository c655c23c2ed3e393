"""What counts as evidence, for which challenger, and how often."""

import json

import pytest

from jobs.gate.eprocess import Draw
from jobs.gate.ring import Ring
from transforms.errors import RunError

ENTERED, LATER = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"
ONE = Draw.whole([1.0])


@pytest.fixture
def ring():
    return Ring().enter("b", "a", ENTERED)


def test_the_numbers_of_challengers_never_start_again(ring):
    state = ring.settle(promoted=True).enter("c", "b", LATER).enter("d", "b", LATER)
    assert (state.challenger, state.number, state.promotions, state.nights) == ("d", 3, 1, ())
    assert state.settle(promoted=False).number == 3


def test_a_new_challenger_withdraws_the_one_before_and_its_evidence(ring):
    state = ring.add("b", ONE, ["x"], LATER).enter("c", "a", LATER)
    assert (state.challenger, state.draws, state.seen) == ("c", (), frozenset())
    with pytest.raises(RunError, match="these labels compare b, and c is in the ring"):
        state.add("b", ONE, ["y"], "2026-01-03T00:00:00+00:00")


def test_a_ring_is_the_same_after_a_round_trip_through_json(ring):
    weights = {"weights": {"yes": 1.0, "no": 0.25}, "unseen": 1.0}
    state = ring.enter("c", "a", ENTERED, weights, scale=2.5).add("c", Draw((0.5,), (0.25,), 7, 0.25), ["x"], LATER)
    state = state.spend(ONE, ["held out"])
    assert Ring.from_json(json.loads(json.dumps(state.to_json()))) == state
    assert Ring.from_json(Ring().to_json()) == Ring()


@pytest.mark.parametrize("drawn", [ENTERED, "2025-12-31T23:00:00Z", "2026-01-01T01:00:00+02:00", "2026-01-01T00:00:00"])
def test_rows_that_were_drawn_before_the_weights_were_frozen_are_no_evidence(ring, drawn):
    with pytest.raises(RunError, match="only rows that are drawn later are evidence"):
        ring.add("b", ONE, ["x"], drawn)


def test_times_are_compared_as_times_and_not_as_texts(ring):
    assert ring.add("b", ONE, ["x"], "2025-12-31T23:30:00-01:00").draws == (ONE,)
    with pytest.raises(RunError, match="'yesterday' is no time"):
        ring.add("b", ONE, ["x"], "yesterday")


def test_rows_for_another_challenger_are_no_evidence(ring):
    with pytest.raises(RunError, match="these labels compare c, and b is in the ring"):
        ring.add("c", ONE, ["x"], LATER)
    with pytest.raises(RunError, match="no challenger is in the ring"):
        Ring().add("c", ONE, ["x"], LATER)


def test_a_row_counts_once(ring):
    with pytest.raises(RunError, match="row x is evidence already"):
        ring.add("b", ONE, ["x"], LATER).add("b", ONE, ["x"], LATER)
    with pytest.raises(RunError, match="a row is in this draw twice"):
        ring.add("b", Draw.whole([1.0, 1.0]), ["x", "x"], LATER)
    with pytest.raises(RunError, match="2 labelled rows have 1 keys"):
        ring.add("b", Draw.whole([1.0, 1.0]), ["x"], LATER)


def test_rows_that_the_challenger_was_trained_on_are_no_evidence(ring):
    with pytest.raises(RunError, match="b was trained on row x"):
        ring.add("b", ONE, ["x"], LATER, trained={"x", "y"})


def test_a_row_of_the_holdout_is_evidence_for_one_challenger(ring):
    state = ring.spend(ONE, ["x"])
    assert state.holdout_spent
    again = state.enter("c", "a", LATER)
    assert not again.holdout_spent
    assert again.unspent(["x", "y"]) == [False, True]
    with pytest.raises(RunError, match="row x of the holdout was evidence before"):
        again.spend(ONE, ["x"])
    assert again.spend(ONE, ["y"]).spent == {"x", "y"}
    with pytest.raises(RunError, match="no challenger is in the ring"):
        Ring().spend(ONE, ["x"])


def test_a_row_of_the_holdout_that_was_drawn_as_well_counts_once(ring):
    state = ring.add("b", ONE, ["x"], LATER)
    assert state.unspent(["x"]) == [False]
    with pytest.raises(RunError, match="row x is evidence already"):
        state.spend(ONE, ["x"])


def test_impossible_moves_are_refused(ring):
    with pytest.raises(RunError, match="a is the champion"):
        ring.enter("a", "a", LATER)
    with pytest.raises(RunError, match="no challenger is in the ring"):
        Ring().settle(promoted=True)
    with pytest.raises(RunError, match="it is at least 1"):
        ring.enter("c", "a", LATER, scale=0.5)
