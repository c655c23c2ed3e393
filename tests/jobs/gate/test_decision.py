"""Decisions, their reasons and their receipts."""

import copy
import json

import numpy as np
import pytest

from jobs.gate import decision
from jobs.gate.decision import Evaluated, decide
from jobs.gate.eprocess import Draw
from jobs.gate.ring import Ring
from jobs.gate.spec import GateSpec
from transforms.errors import RunError

GATE = GateSpec(floor=0.8, max_slice_drop=0.05)
ENTERED, LATER = "2026-01-01T00:00:00+00:00", "2026-01-02T00:00:00+00:00"


def evaluated(**more):
    return Evaluated(
        **({"version": "b", "metric": "macro_f1", "value": 0.9, "champion_value": 0.88, "changed": 30} | more)
    )


def ring(better=0, worse=0, equal=0):
    """A ring with that evidence for challenger b."""
    entered = Ring().enter("b", "a", ENTERED)
    if better + worse + equal == 0:
        return entered
    draw = Draw.whole([1.0] * better + [-1.0] * worse + [0.0] * equal)
    return entered.add("b", draw, [f"row {i}" for i in range(better + worse + equal)], LATER)


def test_the_first_version_needs_the_floor_only():
    found = decide(GATE, evaluated(champion_value=None, changed=None), Ring())
    assert (found.decision, found.reason) == ("promoted", "it is the first version, and reaches the floor")
    found = decide(GATE, evaluated(champion_value=None, changed=None, value=0.7), Ring())
    assert (found.decision, found.reason) == ("refused", "macro_f1 is 0.7000, below the floor of 0.8")


def test_a_proven_gain_is_promoted():
    found = decide(GATE, evaluated(), ring(better=40, worse=10))
    assert found.decision == "promoted"
    assert found.gain == pytest.approx(0.6)
    assert found.gain_low > 0
    assert found.labels_needed is None


def test_a_gain_that_is_not_proven_yet_waits_for_labels():
    found = decide(GATE, evaluated(), ring(better=9, worse=5))
    assert found.decision == "waiting"
    assert found.gain_low < 0 < found.gain_high
    assert found.labels_needed > 0
    assert f"about {found.labels_needed:,} more labels would settle it" in found.reason


def test_a_challenger_without_gain_waits_without_a_foreseeable_end():
    found = decide(GATE, evaluated(), ring(better=5, worse=6))
    assert (found.decision, found.labels_needed) == ("waiting", None)
    assert "no number of labels is foreseeable" in found.reason
    assert decide(GATE, evaluated(), ring()).reason.startswith("there is no evidence yet")


def test_a_challenger_that_is_shown_to_be_worse_is_refused():
    found = decide(GATE, evaluated(), ring(better=5, worse=40))
    assert found.decision == "refused"
    assert "it is shown that the gain is at most 0.0" in found.reason


@pytest.mark.parametrize(
    ("gate", "more", "reason"),
    [
        ({"floor": 0.95}, {}, "below the floor of 0.95"),
        ({}, {"changed": 0}, "it has no effect"),
        ({}, {"slices": {"lang=de": (-1.0,) * 20, "lang=en": (0.0,) * 20}}, "it loses more than 0.05 on lang=de"),
        ({"max_latency": 1.5}, {"latency": 2.0}, "it takes 2.00 times as long as the champion, and 1.5 is allowed"),
    ],
)
def test_floor_effect_slices_and_latency_veto_a_proven_gain(gate, more, reason):
    found = decide(GateSpec(**gate), evaluated(**more), ring(better=40, worse=10))
    assert found.decision == "refused"
    assert reason in found.reason


def test_a_slice_is_harmed_not_harmed_or_not_decided():
    rng = np.random.default_rng(0)
    assert decision.harm((-1.0,) * 20, GATE) == "harm shown"
    assert decision.harm(tuple(rng.choice([1.0, -1.0, 0.0], 2000, p=[0.05, 0.05, 0.9])), GATE) == "no harm shown"
    assert decision.harm((0.0, 1.0, -1.0), GATE) == "cannot tell yet"
    assert decision.harm((), GATE) == "cannot tell yet"


def test_a_receipt_derives_the_decision_again_after_a_round_trip_through_json():
    found = decide(GATE, evaluated(slices={"lang=de": (0.0, 1.0)}), ring(better=40, worse=10))
    assert decision.verify(json.loads(json.dumps(found.receipt))) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt["ring"].update(number=30),
        lambda receipt: receipt["gate"].update(floor=0.99),
        lambda receipt: receipt["evaluated"].update(value=0.1),
        lambda receipt: receipt["ring"]["draws"][0]["differences"].__setitem__(slice(0, 40), [-1.0] * 40),
        lambda receipt: receipt.update(decision="waiting"),
    ],
)
def test_an_altered_receipt_is_found(change):
    receipt = copy.deepcopy(json.loads(json.dumps(decide(GATE, evaluated(), ring(better=40, worse=10)).receipt)))
    change(receipt)
    assert decision.verify(receipt) != []


def test_a_damaged_receipt_and_one_of_another_format_are_named():
    assert decision.verify({"format": 99}) == ["the receipt has format 99, and this version reads format 1"]
    assert decision.verify({"format": 1})[0].startswith("the receipt is damaged")


def test_the_numbers_of_challengers_never_start_again():
    state = Ring().enter("b", "a", ENTERED).settle(promoted=True).enter("c", "b", LATER).enter("d", "b", LATER)
    assert (state.challenger, state.number, state.promotions, state.draws) == ("d", 3, 1, ())
    assert Ring.from_json(json.loads(json.dumps(state.to_json()))) == state


def test_only_new_labels_of_the_challenger_in_the_ring_are_evidence():
    state, draw = Ring().enter("b", "a", ENTERED), Draw.whole([1.0])
    with pytest.raises(RunError, match="only rows that are drawn later are evidence"):
        state.add("b", draw, ["x"], ENTERED)
    with pytest.raises(RunError, match="b is in the ring"):
        state.add("c", draw, ["x"], LATER)
    with pytest.raises(RunError, match="each row counts once"):
        state.add("b", draw, ["x"], LATER).add("b", draw, ["x"], LATER)
    with pytest.raises(RunError, match="each row counts once"):
        state.add("b", Draw.whole([1.0, 1.0]), ["x", "x"], LATER)


def test_a_row_of_the_holdout_is_evidence_for_one_challenger():
    state = Ring().enter("b", "a", ENTERED).spend(Draw.whole([1.0]), ["x"])
    again = state.enter("c", "a", LATER)
    with pytest.raises(RunError, match="row x of the holdout was evidence before"):
        again.spend(Draw.whole([1.0]), ["x"])
    assert again.spend(Draw.whole([1.0]), ["y"]).spent == {"x", "y"}
    with pytest.raises(RunError, match="no challenger is in the ring"):
        Ring().spend(Draw.whole([1.0]), ["x"])
