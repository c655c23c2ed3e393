"""Decisions, their reasons and their receipts."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from jobs.gate import decision, slices
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


def test_a_first_version_whose_answers_earn_as_much_as_those_of_the_base_is_refused():
    gate, tie = GateSpec(), {"champion_value": None, "changed": None, "metric": "win_rate"}
    found = decide(gate, evaluated(**tie, value=0.5), Ring())
    assert found.decision == "refused"
    assert found.reason == "win_rate is 0.5000, so that its answers earn no more than those of the base"
    assert decide(gate, evaluated(**tie, value=0.51), Ring()).decision == "promoted"


def test_a_student_has_to_agree_with_its_teacher():
    gate, first = GateSpec(min_agreement=0.9), {"champion_value": None, "changed": None}
    refused = decide(gate, evaluated(**first, agreement=0.85), Ring())
    assert (refused.decision, "0.8500, and 0.9 is needed" in refused.reason) == ("refused", True)
    accepted = decide(gate, evaluated(**first, agreement=0.92), Ring())
    assert (accepted.decision, decision.verify(accepted.receipt)) == ("promoted", [])


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


def test_a_challenger_that_loses_a_little_waits_for_the_labels_that_would_refute_it():
    found = decide(GATE, evaluated(), ring(better=5, worse=9))
    assert found.decision == "waiting"
    assert f"about {found.labels_needed:,} more labels would settle it, probably as no gain" in found.reason


def test_equal_versions_wait_without_a_foreseeable_end():
    found = decide(GATE, evaluated(), ring(better=20, worse=20))
    assert (found.decision, found.labels_needed) == ("waiting", None)
    assert "no number of labels that would settle it is foreseeable" in found.reason


@pytest.mark.parametrize("state", [Ring(), Ring().enter("b", "a", ENTERED)])
def test_a_challenger_without_evidence_waits(state):
    found = decide(GATE, evaluated(), state)
    assert (found.decision, found.labels_needed, found.gain) == ("waiting", None, None)
    assert found.reason.startswith("there is no evidence yet")


def test_the_champion_itself_is_nothing_new():
    found = decide(GATE, evaluated(version="a", champion="a"), Ring())
    assert (found.decision, found.reason) == ("nothing new", "version a is the champion already")


def test_the_evidence_of_another_challenger_is_refused():
    with pytest.raises(RunError, match="c was evaluated, and b is in the ring"):
        decide(GATE, evaluated(version="c"), ring(better=40, worse=10))


def test_evidence_against_an_earlier_champion_is_refused():
    with pytest.raises(RunError, match="compares b with a, and z is champion now; let b enter the ring again"):
        decide(GATE, evaluated(champion="z"), ring(better=40, worse=10))
    assert decide(GATE, evaluated(champion="a"), ring(better=40, worse=10)).decision == "promoted"


def test_a_later_challenger_needs_more_evidence_for_the_same_decision():
    state = ring(better=30, worse=6)
    assert decide(GATE, evaluated(), state).decision == "promoted"
    assert decide(GATE, evaluated(), replace(state, number=20)).decision == "waiting"
    assert decide(GATE, evaluated(), replace(state, number=20, promotions=19)).decision == "promoted"


def test_a_gain_has_to_exceed_the_smallest_gain():
    state = ring(better=40, worse=10, equal=150)
    assert decide(GateSpec(min_gain=0.0), evaluated(), state).decision == "promoted"
    assert decide(GateSpec(min_gain=0.12), evaluated(), state).decision == "waiting"
    assert decide(GateSpec(min_gain=0.5), evaluated(), state).decision == "refused"


def test_gains_with_weights_of_classes_are_told_in_the_unit_of_the_metric():
    draw = Draw.whole([0.1] * 200 + [-0.1] * 40)
    keys = [f"row {i}" for i in range(240)]
    plain = Ring().enter("b", "a", ENTERED).add("b", draw, keys, LATER)
    weighted = Ring().enter("b", "a", ENTERED, {"weights": {}}, scale=5.0).add("b", draw, keys, LATER)
    one, other = decide(GATE, evaluated(), plain), decide(GATE, evaluated(), weighted)
    assert [5 * each for each in (one.gain, one.gain_low, one.gain_high)] == pytest.approx(
        [other.gain, other.gain_low, other.gain_high]
    )
    assert decide(GateSpec(min_gain=0.1), evaluated(), plain).decision == "refused"
    assert decide(GateSpec(min_gain=0.1), evaluated(), weighted).decision == "promoted"


def test_a_decision_on_rows_of_the_holdout_says_so():
    draw = Draw.whole([1.0] * 40 + [-1.0] * 10)
    state = Ring().enter("b", "a", ENTERED).spend(draw, [f"row {i}" for i in range(50)])
    found = decide(GATE, evaluated(), state)
    assert found.decision == "promoted"
    assert "rows of the holdout were spent on it" in found.reason
    assert "holdout" not in decide(GATE, evaluated(), ring(better=40, worse=10)).reason


def test_a_value_that_is_not_a_number_is_refused():
    found = decide(GATE, evaluated(value=math.nan), ring(better=40, worse=10))
    assert (found.decision, found.reason) == ("refused", "macro_f1 is not a number")


def test_the_floor_of_perplexity_is_a_mean_probability():
    more = {"metric": "perplexity", "champion_value": None, "changed": None, "lower_is_better": True}
    assert decide(GateSpec(floor=0.2), evaluated(value=4.0, **more), Ring()).decision == "promoted"
    found = decide(GateSpec(floor=0.2), evaluated(value=8.0, **more), Ring())
    assert (found.decision, found.reason) == ("refused", "1 / perplexity is 0.1250, below the floor of 0.2")


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


def test_a_computing_time_that_was_not_measured_is_no_veto_and_is_said():
    found = decide(GateSpec(max_latency=1.5), evaluated(latency=None), ring(better=40, worse=10))
    assert found.decision == "promoted"
    assert "the computing time was not measured, because the holdout has too few rows" in found.reason
    assert decision.verify(json.loads(json.dumps(found.receipt))) == []


def test_a_challenger_that_is_certainly_worse_on_the_holdout_is_refused_without_unspent_evidence():
    rows = [-1.0] * 60 + [1.0] * 10 + [0.0] * 130
    found = decide(GATE, evaluated(slices={slices.ALL: rows}), ring())
    assert (found.decision, found.reason) == (
        "refused",
        "it is worse than the champion on the holdout, which is certain for 200 rows",
    )
    assert decision.verify(found.receipt) == []


def test_a_small_loss_on_the_holdout_refuses_nothing_and_is_no_undecided_slice():
    rows = [-1.0] * 6 + [1.0] * 3 + [0.0] * 191
    found = decide(GATE, evaluated(slices={slices.ALL: rows}), ring(better=40, worse=10))
    assert found.decision == "promoted"
    assert slices.ALL not in found.reason


def test_a_slice_is_harmed_not_harmed_or_not_decided():
    rng = np.random.default_rng(0)
    found = slices.compare(
        {
            "lang=de": (-1.0,) * 20,
            "lang=en": rng.choice([1.0, -1.0, 0.0], 2000, p=[0.05, 0.05, 0.9]).tolist(),
            "lang=fr": (0.0, 1.0, -1.0),
            "lang=it": (),
        },
        GATE,
    )
    harm = {name: each.harm for name, each in found.items()}
    assert harm == {
        "lang=de": "harm shown",
        "lang=en": "no harm shown",
        "lang=fr": "cannot tell yet",
        "lang=it": "cannot tell yet",
    }
    assert found["lang=de"].gain_high < -0.05 < found["lang=en"].gain_low


def test_no_loss_is_harm_if_every_loss_is_allowed():
    found = slices.compare({"lang=de": (-1.0,) * 20}, GateSpec(max_slice_drop=1.0))
    assert found["lang=de"].harm == "no harm shown"


def test_many_slices_without_harm_seldom_stop_a_challenger():
    rng, stopped = np.random.default_rng(1), 0
    for _ in range(60):
        drawn = {str(i): rng.choice([1.0, -1.0, 0.0], 60, p=[0.1, 0.15, 0.75]).tolist() for i in range(12)}
        stopped += any(each.harm == "harm shown" for each in slices.compare(drawn, GATE).values())
    assert stopped <= binom.ppf(0.999, 60, 0.05)


def test_an_undecided_slice_does_not_stop_a_proven_gain_and_is_named():
    found = decide(GATE, evaluated(slices={"lang=fr": (0.0, 1.0)}), ring(better=40, worse=10))
    assert found.decision == "promoted"
    assert found.reason.endswith("there are too few rows to exclude harm on lang=fr")


def test_a_receipt_derives_the_decision_again_after_a_round_trip_through_json():
    found = decide(GATE, evaluated(slices={"lang=de": (0.0, 1.0)}), ring(better=40, worse=10))
    assert decision.verify(json.loads(json.dumps(found.receipt))) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda receipt: receipt["ring"].update(number=30),
        lambda receipt: receipt["gate"].update(floor=0.99),
        lambda receipt: receipt["evaluated"].update(value=0.1),
        lambda receipt: receipt["ring"]["nights"][0]["draw"]["differences"].__setitem__(slice(0, 40), [-1.0] * 40),
        lambda receipt: receipt["ring"]["nights"][0]["draw"]["differences"].__setitem__(0, 0.99),
        lambda receipt: receipt["ring"]["nights"][0]["keys"].__setitem__(0, "another row"),
        lambda receipt: receipt["ring"]["nights"][0].update(drawn_at="2026-02-02T00:00:00+00:00"),
        lambda receipt: receipt["evaluated"]["slices"]["lang=de"].append([1.0, 3]),
        lambda receipt: receipt["derived"].update(gain_low=0.5),
        lambda receipt: receipt["derived"]["slices"]["lang=de"].update(harm="harm shown"),
        lambda receipt: receipt.update(decision="waiting"),
        lambda receipt: receipt.update(reason="because"),
        lambda receipt: receipt.pop("digest"),
    ],
)
def test_an_altered_receipt_is_found(change):
    found = decide(GATE, evaluated(slices={"lang=de": (0.0, 1.0)}), ring(better=40, worse=10))
    receipt = json.loads(json.dumps(found.receipt))
    change(receipt)
    assert decision.verify(receipt) != []


def test_a_receipt_of_numbers_from_numpy_is_plain_json():
    draw = Draw(tuple(np.full(50, 0.5, np.float32)), tuple(np.full(50, 0.25, np.float32)), np.int64(150), 0.25)
    state = Ring().enter("b", "a", ENTERED).add("b", draw, [str(i) for i in range(50)], LATER)
    given = evaluated(
        value=np.float32(0.9),
        changed=np.int64(30),
        latency=np.float32(1.0),
        slices={"lang=de": np.zeros(9, np.float32)},
    )
    assert decision.verify(json.loads(json.dumps(decide(GATE, given, state).receipt))) == []


def test_verification_names_what_differs():
    receipt = json.loads(json.dumps(decide(GATE, evaluated(), ring(better=9, worse=5)).receipt))
    receipt["decision"] = "promoted"
    assert decision.verify(receipt) == [
        "decision is 'promoted', and the evidence gives 'waiting'",
        "the receipt was altered after it was written: its digest is not that of its content",
    ]


def test_a_damaged_receipt_and_one_of_another_format_are_named():
    assert decision.verify({"format": 99}) == ["the receipt has format 99, and this version reads format 2"]
    assert decision.verify({"format": 2})[0].startswith("the receipt is damaged")
