"""What a registry keeps: immutable versions, the champion among them, and the moves from one champion to another."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from transforms.errors import RunError

Kind = Literal["adapter", "model"]


@dataclass(frozen=True)
class Base:
    """The model that a version was trained on.

    Attributes:
        model: its name on the Hub, or its folder.
        commit: of the Hub, or a hash of the folder.
        fingerprint: hash of its weights, see `transforms.checkpoint.fingerprint`.
    """

    model: str
    commit: str
    fingerprint: str


@dataclass(frozen=True)
class Version:
    """One version: an adapter or a whole model, and how it came about.

    Attributes:
        version: its name, derived from its files and its origin.
        task: the task that it serves.
        method: how it was trained, such as lora.
        kind: adapter, or model for a whole model folder.
        base: what it was trained on.
        labels: its labels in the order of its outputs; None for a task without labels.
        training: content of the training file.
        train_hash: hash of the training rows.
        holdout_hash: hash of the holdout rows.
        rows_train: number of training rows.
        rows_holdout: number of holdout rows.
        metrics: metric -> value on the holdout.
        slices: slice -> metric -> value.
        libraries: library -> version.
        created: UTC (ISO 8601).
        files: name of each file -> SHA-256.
    """

    version: str
    task: str
    method: str
    kind: Kind
    base: Base
    labels: tuple[str, ...] | None
    training: Mapping[str, Any]
    train_hash: str
    holdout_hash: str
    rows_train: int
    rows_holdout: int
    metrics: Mapping[str, float]
    slices: Mapping[str, Mapping[str, float]]
    libraries: Mapping[str, str]
    created: str
    files: Mapping[str, str]

    @property
    def content(self) -> str:
        """A hash of all files, 40 hex digits: what a job's fingerprint holds."""
        return hashlib.sha256(json.dumps(sorted(self.files.items())).encode()).hexdigest()[:40]

    def to_json(self) -> bytes:
        """The content of version.json."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes, place: str) -> Version:
        """The inverse of `to_json`.

        Raises:
            RunError: the file is damaged.
        """
        try:
            data = json.loads(text)
            labels = None if data["labels"] is None else tuple(data["labels"])
            return cls(**(data | {"base": Base(**data["base"]), "labels": labels}))
        except (ValueError, KeyError, TypeError) as error:
            raise RunError(f"{place} is damaged ({error}); restore the file, or add the version again") from error


def name_of(files: Mapping[str, str], base: Base, train_hash: str, holdout_hash: str) -> str:
    """The name of a version: 12 hex digits, the same for the same files and origin."""
    origin = [sorted(files.items()), base.fingerprint, train_hash, holdout_hash]
    return hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Move:
    """One move of the champion.

    Attributes:
        number: counts the moves of a registry from 1.
        version: the new champion.
        before: the champion before; None for the first.
        fallback: the version that a rollback returns to; None if there is none.
        action: promote or rollback.
        by: who or what approved it.
        reason: why.
        at: UTC (ISO 8601).
        metrics: those of the new champion.
        receipt: what the decision was derived from; None if a person decided.
    """

    number: int
    version: str
    before: str | None
    fallback: str | None
    action: Literal["promote", "rollback"]
    by: str
    reason: str
    at: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    receipt: Mapping[str, Any] | None = None

    def to_json(self) -> bytes:
        """The content of champion.json, and of a file of the history."""
        return json.dumps(asdict(self), indent=1, sort_keys=True).encode()

    @classmethod
    def from_json(cls, text: bytes, place: str) -> Move:
        """The inverse of `to_json`.

        Raises:
            RunError: the file is damaged.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError) as error:
            raise RunError(
                f"{place} is damaged ({error}); restore it, or promote a version again with --expect none after "
                f"deleting it: `nightscribe adapters list` shows the history"
            ) from error
