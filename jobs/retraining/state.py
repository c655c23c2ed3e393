"""What the gate of a registry remembers: the ring, the decisions, and the rows of the holdout."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from jobs.gate.ring import Ring
from jobs.registry import Registry
from transforms.errors import RunError, SpecError

RING = "gate/ring.json"
DECISIONS = "gate/decisions"
REFUSALS = "gate/refusals"
HOLDOUT = "gate/holdout.json"


def ring(registry: Registry) -> Ring:
    """The ring of a registry; empty for a new one.

    Raises:
        RunError: its file is damaged.
    """
    found = _read(registry, RING)
    if found is None:
        return Ring()
    try:
        return Ring.from_json(found)
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{registry.url}/{RING} is damaged ({error}); restore the file") from error


def keep_ring(registry: Registry, state: Ring) -> None:
    """Write the ring."""
    registry.store.put(RING, json.dumps(state.to_json()).encode())


def decided(registry: Registry, version: str) -> dict[str, Any] | None:
    """The receipt of the decision about a version; None if there was none, it waits, or it was not carried out."""
    found = _read(registry, f"{DECISIONS}/{version}.json")
    if found is None or found.get("decision") == "waiting":
        return None
    if (refusal := _read(registry, f"{REFUSALS}/{version}.json")) is not None:
        return found | refusal
    if found.get("decision") == "promoted" and all(move.version != version for move in registry.history()):
        # The process ended before the champion moved, or nobody has approved it yet.
        return None
    return found


def foreseeable(registry: Registry, version: str) -> bool:
    """Whether the last decision about a waiting version named a number of labels that would settle it."""
    found = _read(registry, f"{DECISIONS}/{version}.json")
    return found is None or found["derived"]["labels_needed"] is not None


def accepted(registry: Registry, version: str) -> dict[str, Any] | None:
    """The receipt of a version that the gate has accepted and that nobody has promoted or refused yet; else None."""
    if decided(registry, version) is not None:
        return None
    found = _read(registry, f"{DECISIONS}/{version}.json")
    return found if found is not None and found.get("decision") == "promoted" else None


def keep_decision(registry: Registry, version: str, receipt: Mapping[str, Any]) -> None:
    """Write the receipt of a decision."""
    registry.store.put(f"{DECISIONS}/{version}.json", json.dumps(receipt).encode())


def keep_refusal(registry: Registry, version: str, reason: str) -> None:
    """Write that a person has refused a version that the gate had accepted."""
    registry.store.put(f"{REFUSALS}/{version}.json", json.dumps({"decision": "refused", "reason": reason}).encode())


def check_holdout(registry: Registry, holdout: pa.Table) -> None:
    """Refuse a holdout that lost rows since the last round: the champion was measured on them.

    Raises:
        SpecError: with the number of rows and what to do.
    """
    kept = _read(registry, HOLDOUT)
    if kept is None:
        return
    lost = set(kept["keys"]) - set(holdout.column("key").to_pylist())
    if lost:
        raise SpecError(
            f"data.holdout lacks {len(lost):,} of the {len(kept['keys']):,} rows on which the champion was measured; "
            f"restore them, or delete {registry.url}/{HOLDOUT} if they were removed on purpose"
        )


def keep_holdout(registry: Registry, holdout: pa.Table) -> None:
    """Remember the rows of the holdout."""
    keys = sorted(holdout.column("key").to_pylist())
    registry.store.put(HOLDOUT, json.dumps({"keys": keys}).encode())


def _read(registry: Registry, name: str) -> dict[str, Any] | None:
    try:
        content = json.loads(registry.store.get(name))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise RunError(f"{registry.url}/{name} is damaged ({error}); restore the file") from error
    if not isinstance(content, dict):
        raise RunError(f"{registry.url}/{name} is damaged; restore the file")
    return content
