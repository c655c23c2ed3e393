"""A version: an adapter or a whole model that never changes, and how it came about."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any, Literal

from pydantic import TypeAdapter

from jobs.registry import record
from transforms.errors import UnreadableRegistry

Kind = Literal["adapter", "model"]
FIX = "restore the file, or delete it and add the version again"


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
            UnreadableRegistry: the file is damaged, or was changed after it was written.
        """
        version = record.parse(_FORM, text, place, FIX)
        if outside := [name for name in version.files if PurePosixPath(name).is_absolute() or ".." in name.split("/")]:
            raise _damaged(place, f"it names the file {outside[0]!r}, which is outside of the version")
        if name_of(version.files, version.base, version.train_hash, version.holdout_hash) != version.version:
            raise _damaged(place, "its files or its origin are not those that the version was named after")
        return version


_FORM = TypeAdapter(Version)


def _damaged(place: str, what: str) -> UnreadableRegistry:
    return UnreadableRegistry(f"{place} is damaged ({what}); {FIX}")


def name_of(files: Mapping[str, str], base: Base, train_hash: str, holdout_hash: str) -> str:
    """The name of a version: 12 hex digits, the same for the same files and origin."""
    origin = [sorted(files.items()), base.fingerprint, train_hash, holdout_hash]
    return hashlib.sha256(json.dumps(origin).encode()).hexdigest()[:12]
