"""The decision about a challenger, from the evidence and the vetoes; a receipt derives it again.

The first version of a registry needs the floor only; a student has to agree with its teacher as well. Any other version
must prove a gain of more than `min_gain` over the champion: its e-value (`eprocess`) must reach the threshold of its
number (`thresholds`). The floor, the slices and the latency only veto, so they can be looked at on the same holdout for
every challenger.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from jobs.gate import eprocess, slices
from jobs.gate.evaluated import Evaluated
from jobs.gate.ring import Ring
from jobs.gate.slices import Slice
from jobs.gate.spec import GateSpec
from jobs.gate.thresholds import log_threshold
from transforms.errors import RunError

__all__ = ["Decision", "Evaluated", "decide", "verify"]

Kind = Literal["promoted", "refused", "waiting", "nothing new"]
FORMAT = 2
# The metric of answers beside those of the base; a tie counts half.
WIN_RATE = "win_rate"
# Numbers that are derived again on another machine may differ by rounding.
ROUNDING = 1e-6
NO_EVIDENCE = (
    "there is no evidence yet: the holdout has too few rows that no earlier challenger has used, and no row that was "
    "drawn since this one was trained is labelled; label rows of the next runs, or decide without the gate by "
    "`nightscribe adapters promote`"
)


@dataclass(frozen=True)
class Decision:
    """The decision.

    Attributes:
        decision: promoted, refused, waiting, or nothing new.
        reason: in one sentence.
        gain: estimated gain over the champion, as a fraction (with weights of classes: of weighted correctness); None
            without evidence.
        gain_low: lower end of its confidence sequence. The confidence is that of one challenger; the threshold of a
            later challenger is higher, so that it can wait although this is above `min_gain`.
        gain_high: upper end.
        labels_needed: further labels that would probably settle it, either way; None if it is settled or none are
            foreseeable.
        slices: name of a slice -> its gain, and whether harm is shown.
        receipt: everything that the decision was derived from, as plain JSON.
    """

    decision: Kind
    reason: str
    gain: float | None = None
    gain_low: float | None = None
    gain_high: float | None = None
    labels_needed: int | None = None
    slices: Mapping[str, Slice] = field(default_factory=dict)
    receipt: Mapping[str, Any] = field(default_factory=dict)


def decide(gate: GateSpec, evaluated: Evaluated, ring: Ring) -> Decision:
    """Decide about a challenger.

    Args:
        gate: the section of the training file.
        evaluated: what was measured on the holdout.
        ring: with the challenger and its evidence; empty for the first version.

    Returns:
        The decision with its receipt.

    Raises:
        RunError: another challenger is in the ring, or the evidence compares it with another champion.
    """
    found = _derive(gate, evaluated, ring)
    receipt = {
        "format": FORMAT,
        "gate": gate.model_dump(mode="json"),
        "evaluated": evaluated.to_json(),
        "ring": ring.to_json(),
        "derived": _numbers(found),
        "decision": found.decision,
        "reason": found.reason,
    }
    return replace(found, receipt=sealed(receipt))


def sealed(receipt: Mapping[str, Any]) -> dict[str, Any]:
    """The receipt with the digest of its content."""
    return {**receipt, "digest": _digest(receipt)}


def is_sealed(receipt: Mapping[str, Any]) -> bool:
    """Whether the digest of a receipt is that of its content."""
    return bool(receipt.get("digest") == _digest(receipt))


def verify(receipt: Mapping[str, Any]) -> list[str]:
    """Derive the decision of a receipt again.

    The digest finds a receipt that was altered afterwards, also where the decision stays the same; it is no signature:
    who alters a receipt can compute it again, and then has to find evidence that gives the decision.

    Returns:
        What differs, one sentence each; empty if the receipt is right.
    """
    if receipt.get("format") != FORMAT:
        return [f"the receipt has format {receipt.get('format')}, and this version reads format {FORMAT}"]
    try:
        gate, evaluated = GateSpec(**receipt["gate"]), Evaluated.from_json(receipt["evaluated"])
        again = _derive(gate, evaluated, Ring.from_json(receipt["ring"]))
    except (KeyError, TypeError, ValueError, AttributeError, RunError) as error:
        return [f"the receipt is damaged: {type(error).__name__} {error}"]
    wrong = []
    told = {"decision": receipt.get("decision"), "reason": receipt.get("reason"), **_flat(receipt.get("derived"))}
    right = {"decision": again.decision, "reason": again.reason, **_flat(_numbers(again))}
    for key in sorted(told.keys() | right.keys()):
        if not _same(told.get(key), right.get(key)):
            wrong.append(f"{key} is {told.get(key)!r}, and the evidence gives {right.get(key)!r}")
    if not is_sealed(receipt):
        wrong.append("the receipt was altered after it was written: its digest is not that of its content")
    return wrong


def _derive(gate: GateSpec, evaluated: Evaluated, ring: Ring) -> Decision:
    if evaluated.version == evaluated.champion:
        return Decision("nothing new", f"version {evaluated.version} is the champion already")
    if evaluated.champion_value is None:
        return Decision(*(_below_floor(gate, evaluated) or _first(gate, evaluated)))
    if ring.challenger not in (None, evaluated.version):
        raise RunError(f"{evaluated.version} was evaluated, and {ring.challenger} is in the ring")
    if None not in (ring.champion, evaluated.champion) and ring.champion != evaluated.champion:
        raise RunError(
            f"the evidence compares {ring.challenger} with {ring.champion}, and {evaluated.champion} is champion now; "
            f"let {evaluated.version} enter the ring again"
        )
    compared = slices.compare(evaluated.slices, gate)
    low, high = (end * ring.scale for end in eprocess.interval(ring.draws, gate.confidence))
    gain = eprocess.gain(ring.draws)
    needed = None
    if veto := _veto(gate, evaluated, compared):
        kind, reason = veto
    else:
        kind, reason, needed = _weigh(gate, ring)
        reason += _undecided(compared)
        if gate.max_latency is not None and evaluated.latency is None:
            reason += "; the computing time was not measured, because the holdout has too few rows"
    if gain is None:
        return Decision(kind, reason, labels_needed=needed, slices=compared)
    return Decision(kind, reason, gain * ring.scale, low, high, needed, compared)


def _below_floor(gate: GateSpec, evaluated: Evaluated) -> tuple[Kind, str] | None:
    value, name = evaluated.value, evaluated.metric
    if evaluated.lower_is_better:
        value, name = 1.0 / value if value else math.inf, f"1 / {name}"
    if math.isnan(value):
        return "refused", f"{evaluated.metric} is not a number"
    if value < gate.floor:
        return "refused", f"{name} is {value:.4f}, below the floor of {gate.floor}"
    if evaluated.metric == WIN_RATE and value <= 0.5:
        return "refused", f"{name} is {value:.4f}, so that its answers earn no more than those of the base"
    if evaluated.agreement is not None and evaluated.agreement < gate.min_agreement:
        return (
            "refused",
            f"its agreement with the teacher is only certain to be at least {evaluated.agreement:.4f}, and "
            f"{gate.min_agreement} is needed",
        )
    return None


def _first(gate: GateSpec, evaluated: Evaluated) -> tuple[Kind, str]:
    """A version that has no champion of its kind to be compared with."""
    if evaluated.agreement is not None:
        return (
            "promoted",
            f"its agreement with the teacher is at least {evaluated.agreement:.4f}, and {gate.min_agreement} is needed",
        )
    return "promoted", "it is the first version, and reaches the floor"


def _veto(gate: GateSpec, evaluated: Evaluated, compared: Mapping[str, Slice]) -> tuple[Kind, str] | None:
    if low := _below_floor(gate, evaluated):
        return low
    if evaluated.changed == 0:
        return "refused", "the challenger answers every row as the champion does; it has no effect"
    if (whole := compared.get(slices.ALL)) is not None and whole.gain_high < 0:
        return "refused", f"it is worse than the champion on the holdout, which is certain for {whole.rows:,} rows"
    harmed = sorted(name for name, found in compared.items() if found.harm == "harm shown")
    if harmed:
        return "refused", f"it loses more than {gate.max_slice_drop} on {', '.join(harmed)}"
    if gate.max_latency is not None and evaluated.latency is not None and not evaluated.latency <= gate.max_latency:
        return (
            "refused",
            f"it takes {evaluated.latency:.2f} times as long as the champion, and {gate.max_latency} is allowed",
        )
    return None


def _weigh(gate: GateSpec, ring: Ring) -> tuple[Kind, str, int | None]:
    gain = eprocess.gain(ring.draws)
    if ring.challenger is None or gain is None:
        return "waiting", NO_EVIDENCE, None
    draws, least = ring.draws, gate.min_gain / ring.scale
    enough, refuted = log_threshold(ring.number, ring.promotions, gate.confidence), -math.log(1.0 - gate.confidence)
    won = eprocess.log_e_value(draws, least)
    estimate = f"estimated {gain * ring.scale:+.4f}" + (
        ", rows of the holdout were spent on it" if ring.holdout_spent else ""
    )
    numbers = f"challenger {ring.number} has an e-value of {_odds(won)} and needs {_odds(enough)}; {estimate}"
    if won >= enough:
        return "promoted", f"a gain of more than {gate.min_gain} is proven ({numbers})", None
    if eprocess.log_e_value(draws, least, sign=-1) >= refuted:
        return "refused", f"it is shown that the gain is at most {gate.min_gain} ({estimate})", None
    text = f"a gain of more than {gate.min_gain} is not proven yet ({numbers})"
    if labels := eprocess.labels_needed(draws, least, enough):
        return "waiting", f"{text}; about {labels:,} more labels would settle it", labels
    if labels := eprocess.labels_needed(draws, least, refuted, sign=-1):
        return "waiting", f"{text}; about {labels:,} more labels would settle it, probably as no gain", labels
    return "waiting", f"{text}; no number of labels that would settle it is foreseeable", None


def _undecided(compared: Mapping[str, Slice]) -> str:
    undecided = (name for name, found in compared.items() if found.harm == "cannot tell yet")
    names = sorted(name for name in undecided if name != slices.ALL)
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"; there are too few rows to exclude harm on {shown}"


def _numbers(found: Decision) -> dict[str, Any]:
    """What was derived besides the decision and the reason."""
    return {
        "gain": found.gain,
        "gain_low": found.gain_low,
        "gain_high": found.gain_high,
        "labels_needed": found.labels_needed,
        "slices": {name: asdict(each) for name, each in found.slices.items()},
    }


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, Mapping):
        return {name: value}
    flat: dict[str, Any] = {}
    for key, inner in value.items():
        flat |= _flat(inner, f"{name}.{key}" if name else str(key))
    return flat


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=ROUNDING, abs_tol=ROUNDING * 10)
    return bool(one == other)


def _digest(receipt: Mapping[str, Any]) -> str:
    content = {key: value for key, value in receipt.items() if key != "digest"}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _odds(log_e: float) -> str:
    return f"{math.exp(min(log_e, 50.0)):,.3g}"
