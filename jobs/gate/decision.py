"""The decision about a challenger, from the evidence and the vetoes; a receipt derives it again.

The first version of a registry needs the floor only. Any other must prove a gain of more than `min_gain` over the
champion, see `eprocess` and `thresholds`. The floor, the slices and the latency only veto.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from jobs.gate import eprocess
from jobs.gate.eprocess import Draw
from jobs.gate.ring import Ring
from jobs.gate.spec import GateSpec
from jobs.gate.thresholds import log_threshold

Kind = Literal["promoted", "refused", "waiting"]
Harm = Literal["harm shown", "no harm shown", "cannot tell yet"]
FORMAT = 1


@dataclass(frozen=True)
class Evaluated:
    """What was measured on the holdout.

    Attributes:
        version: the challenger.
        metric: name of the metric of the floor.
        value: the challenger's.
        champion_value: the champion's; None without a champion.
        changed: rows for which the two answer differently, of all rows that were compared; None without a champion.
        slices: name of a slice -> differences of its rows, as in `Draw`.
        latency: computing time of the challenger divided by that of the champion; None if it was not measured.
    """

    version: str
    metric: str
    value: float
    champion_value: float | None = None
    changed: int | None = None
    slices: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    latency: float | None = None


@dataclass(frozen=True)
class Decision:
    """The decision.

    Attributes:
        decision: promoted, refused or waiting.
        reason: in one sentence.
        gain: estimated gain over the champion, in the unit of the differences; None without evidence.
        gain_low: lower end of its confidence sequence.
        gain_high: upper end.
        labels_needed: further labels that would probably settle it; None if none are needed or none are foreseeable.
        slices: name of a slice -> harm shown, no harm shown, or cannot tell yet.
        receipt: everything that the decision was derived from, as plain JSON.
    """

    decision: Kind
    reason: str
    gain: float | None
    gain_low: float | None
    gain_high: float | None
    labels_needed: int | None
    slices: Mapping[str, Harm]
    receipt: Mapping[str, Any]


def decide(gate: GateSpec, evaluated: Evaluated, ring: Ring) -> Decision:
    """Decide about a challenger.

    Args:
        gate: the section of the training file.
        evaluated: what was measured on the holdout.
        ring: with the challenger and its evidence; empty for the first version.
    """
    first = evaluated.champion_value is None
    slices = {} if first else {name: harm(d, gate) for name, d in evaluated.slices.items()}
    gain, low, high, needed = None, None, None, None
    if ring.draws and not first:
        gain = eprocess.gain(ring.draws)
        low, high = eprocess.interval(ring.draws, gate.confidence)
    kind, reason = _veto(gate, evaluated, slices) or _weigh(gate, ring, first, gain)
    if kind == "waiting":
        needed = eprocess.labels_needed(ring.draws, gate.min_gain, _log_threshold(gate, ring))
        reason += (
            f"; about {needed:,} more labels would settle it" if needed else "; no number of labels is foreseeable"
        )
    receipt = {
        "format": FORMAT,
        "gate": gate.model_dump(mode="json"),
        "evaluated": asdict(evaluated) | {"slices": {name: list(d) for name, d in evaluated.slices.items()}},
        "ring": ring.to_json(),
        "decision": kind,
        "reason": reason,
    }
    return Decision(kind, reason, gain, low, high, needed, slices, receipt)


def verify(receipt: Mapping[str, Any]) -> list[str]:
    """Derive the decision of a receipt again.

    Returns:
        What differs, one sentence each; empty if the receipt is right.
    """
    if receipt.get("format") != FORMAT:
        return [f"the receipt has format {receipt.get('format')}, and this version reads format {FORMAT}"]
    try:
        data = dict(receipt["evaluated"])
        data["slices"] = {name: tuple(d) for name, d in data["slices"].items()}
        again = decide(GateSpec(**receipt["gate"]), Evaluated(**data), Ring.from_json(receipt["ring"]))
    except (KeyError, TypeError, ValueError) as error:
        return [f"the receipt is damaged: {type(error).__name__} {error}"]
    found = {"decision": again.decision, "reason": again.reason}
    return [
        f"{key} is {receipt.get(key)!r}, and the evidence gives {value!r}"
        for key, value in found.items()
        if receipt.get(key) != value
    ]


def harm(differences: tuple[float, ...], gate: GateSpec) -> Harm:
    """Whether the challenger loses more than `max_slice_drop` on a slice, from all of its rows on the holdout."""
    if not differences:
        return "cannot tell yet"
    draws, limit = [Draw.whole(differences)], -math.log(1.0 - gate.confidence)
    if eprocess.log_e_value(draws, -gate.max_slice_drop, sign=-1) >= limit:
        return "harm shown"
    if eprocess.log_e_value(draws, -gate.max_slice_drop) >= limit:
        return "no harm shown"
    return "cannot tell yet"


def _veto(gate: GateSpec, evaluated: Evaluated, slices: Mapping[str, Harm]) -> tuple[Kind, str] | None:
    if evaluated.value < gate.floor:
        return "refused", f"{evaluated.metric} is {evaluated.value:.4f}, below the floor of {gate.floor}"
    if evaluated.changed == 0:
        return "refused", "the challenger answers every row as the champion does; it has no effect"
    harmed = sorted(name for name, found in slices.items() if found == "harm shown")
    if harmed:
        return "refused", f"it loses more than {gate.max_slice_drop} on {', '.join(harmed)}"
    if gate.max_latency is not None and evaluated.latency is not None and evaluated.latency > gate.max_latency:
        return (
            "refused",
            f"it takes {evaluated.latency:.2f} times as long as the champion, and {gate.max_latency} is allowed",
        )
    return None


def _weigh(gate: GateSpec, ring: Ring, first: bool, gain: float | None) -> tuple[Kind, str]:
    if first:
        return "promoted", "it is the first version, and reaches the floor"
    if ring.challenger is None or not ring.draws:
        return "waiting", "there is no evidence yet"
    needed, won = _log_threshold(gate, ring), eprocess.log_e_value(ring.draws, gate.min_gain)
    numbers = f"challenger {ring.number}, evidence {_odds(won)} of {_odds(needed)}"
    if won >= needed:
        return "promoted", f"a gain of more than {gate.min_gain} is proven ({numbers}; estimated {gain:+.4f})"
    if eprocess.log_e_value(ring.draws, gate.min_gain, sign=-1) >= -math.log(1.0 - gate.confidence):
        return "refused", f"it is shown that the gain is at most {gate.min_gain} (estimated {gain:+.4f})"
    return "waiting", f"a gain is not proven yet ({numbers}; estimated {gain:+.4f})"


def _log_threshold(gate: GateSpec, ring: Ring) -> float:
    return log_threshold(max(1, ring.number), ring.promotions, gate.confidence)


def _odds(log_e: float) -> str:
    return f"{math.exp(min(log_e, 50.0)):,.3g}"
