"""The versions of a training file: the one it has made already, and a new one."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.evaluation.evaluate import Evaluation
from jobs.models import hub
from jobs.registry import Registry, Version
from jobs.registry.version import Base
from jobs.training import processes, rewards
from jobs.training.data import Rows
from jobs.training.spec import TrainingSpec
from transforms import user_cache
from transforms.checkpoint import fingerprint

LIBRARIES = ("nightscribe", "torch", "transformers", "peft", "trl", "accelerate")
# Keys of a training file that change what is trained.
TRAINED = ("task", "base", "method", "objective", "options", "training", "adapter", "reward", "teacher", "stages")
# Key of a version's training file with what its answers were scored with: commits and hashes, where the file has names.
REWARDED = "rewarded"


def work_folder(registry: Registry, spec: TrainingSpec, rows: Rows) -> Path:
    """Where a training keeps its checkpoints: the same folder for the same training, so that it can continue."""
    identity = hashlib.sha256(json.dumps([_trained(frozen(spec)), rows.train_hash]).encode()).hexdigest()[:16]
    return work_folders(registry) / identity


def work_folders(registry: Registry) -> Path:
    """The folder of the work folders; those of all registries on object stores lie together."""
    if registry.store.local:
        return Path(registry.store.path("_training"))
    return user_cache.folder("training")


def made(spec: TrainingSpec, rows: Rows, registry: Registry) -> Version | None:
    """The version that this training file has already made of these rows; None if there is none."""
    wanted = _trained(frozen(spec))
    same = [v for v in registry.versions() if v.train_hash == rows.train_hash and _trained(v.training) == wanted]
    return same[-1] if same else None


def about(spec: TrainingSpec, rows: Rows, scored: Evaluation) -> Version:
    """How a version that was just trained came about; its name and its files are set by the registry."""
    pin = hub.pin(spec.base.model, spec.base.revision, "base.model")
    return Version(
        version="",
        task=spec.task,
        method=spec.method,
        kind="model" if spec.method == "full" else "adapter",
        base=Base(spec.base.model, pin.commit, fingerprint.of(pin.folder())),
        labels=rows.labels or None,
        training=frozen(spec) | hashes(spec, rows),
        train_hash=rows.train_hash,
        holdout_hash=rows.holdout_hash,
        rows_train=len(rows.train) + len(rows.validation),
        rows_holdout=len(rows.holdout),
        metrics=scored.metrics,
        slices=scored.metrics_by_slice,
        libraries={name: importlib.metadata.version(name) for name in LIBRARIES},
        created=now(),
        files={},
    )


def frozen(spec: TrainingSpec) -> dict[str, Any]:
    """The training file as plain JSON, with the commit of its reward model and the hashes of its reward functions.

    Raises:
        UserError: a reward cannot be used.
    """
    found = spec.frozen()
    if spec.reward is None or not (spec.reward.model or spec.reward.functions):
        return found
    return found | {REWARDED: rewards.pin(spec.reward).identity}


def hashes(spec: TrainingSpec, rows: Rows) -> dict[str, Any]:
    """The hash of the training rows of each earlier stage, by its name."""
    if not spec.stages:
        return {}
    earlier = {stage["name"]: own.train_hash for stage, own in zip(spec.stages, rows.earlier, strict=False)}
    return {"earlier_rows": earlier}


def _trained(training: Any) -> dict[str, Any]:
    # Versions that were made before there were stages have no such key.
    found = {key: training.get(key) or None for key in (*TRAINED, REWARDED)}
    return found | {"training": processes.learnt(training.get("training") or {})}


def now() -> str:
    """The time in UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="microseconds")
