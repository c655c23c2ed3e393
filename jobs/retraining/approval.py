"""What a person has decided about a version that the gate has accepted, carried out without measuring anything again.

The receipt of the gate is in the registry, so the answer is about the very version that the person was shown, also if
there are new labels by now.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from jobs.gate import decision as gates
from jobs.gate.ring import Ring
from jobs.registry import Registry, Version
from jobs.retraining import evidence, state
from jobs.retraining.outcome import Outcome
from transforms.errors import RunError


def answer(registry: Registry, name: str, approved: bool, by: str, reason: str) -> Outcome:
    """Promote or refuse a version; if that was done before, for example before a crash, nothing is done twice.

    Args:
        registry: held by this process, see `round.holding`.
        name: the version that the person was asked about.
        approved: whether it becomes the champion.
        by: who has decided.
        reason: why.

    Returns:
        The outcome, with the numbers of the receipt.

    Raises:
        ModelError: there is no such version.
        RunError: the gate does not accept the version any more, or the champion is another one by now; nothing is
            changed.
    """
    started = time.monotonic()
    version, ring = registry.version(name), state.ring(registry)
    receipt = state.decided(registry, version.version)
    if receipt is None:
        receipt = _accepted(registry, version, ring)
        if approved:
            registry.promote(version.version, by, reason, receipt["evaluated"]["champion"], receipt)
        else:
            # Beside the receipt, which says what the evidence gives.
            state.keep_refusal(registry, version.version, f"refused by {by}: {reason}")
        receipt = state.decided(registry, version.version) or receipt
    if ring.challenger == version.version:
        state.keep_ring(registry, ring.settle(receipt["decision"] == "promoted"))
    approvals = [move for move in registry.history() if (move.version, move.action) == (version.version, "promote")]
    if approvals:
        # Perhaps those of somebody who promoted it on the command line meanwhile.
        by, reason = approvals[-1].by, approvals[-1].reason
    return _outcome(version, receipt, f"approved by {by}: {reason}" if approvals else receipt["reason"], started)


def _accepted(registry: Registry, version: Version, ring: Ring) -> dict[str, Any]:
    """The receipt of a version that can be promoted or refused."""
    receipt = state.accepted(registry, version.version)
    if receipt is None:
        raise RunError(
            f"the gate does not accept version {version.version} of {registry.url!r} any more; start the training again"
        )
    if wrong := gates.verify(receipt):
        raise RunError(f"the receipt of version {version.version} in {registry.url!r} does not hold: {wrong[0]}")
    if receipt["evaluated"]["champion_value"] is not None and ring.challenger != version.version:
        raise RunError(
            f"{ring.challenger or 'no version'} is the challenger in {registry.url!r} now, and not {version.version}; "
            "start the training again"
        )
    return receipt


def _outcome(version: Version, receipt: Mapping[str, Any], reason: str, started: float) -> Outcome:
    evaluated, derived = receipt["evaluated"], receipt["derived"]
    harm = derived["slices"]
    return Outcome(
        version=version.version,
        champion_before=evaluated["champion"],
        metric=evaluated["metric"],
        value=evaluated["value"],
        champion_value=evaluated["champion_value"],
        gain=derived["gain"],
        gain_low=derived["gain_low"],
        gain_high=derived["gain_high"],
        slices={
            name: dict(values) | ({"harm": harm[name]["harm"]} if name in harm else {})
            for name, values in version.slices.items()
        },
        decision=receipt["decision"],
        reason=reason,
        rows_train=version.rows_train,
        rows_holdout=version.rows_holdout,
        seconds=round(time.monotonic() - started, 1),
        evidence=evidence.in_words(Ring.from_json(receipt["ring"]), missing=0),
        approved=receipt["decision"] == "promoted",
    )
