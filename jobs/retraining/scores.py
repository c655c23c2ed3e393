"""Versions of a registry on the holdout, and the weights with which their rows count for the gate."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pyarrow as pa

from jobs.evaluation.evaluate import Evaluation, evaluate
from jobs.evaluation.labels import ClassWeights, class_weights
from jobs.models import hub
from jobs.models.hub import Pin
from jobs.registry import Registry, Version
from jobs.training.spec import TrainingSpec
from transforms.errors import SpecError


def score(spec: TrainingSpec, version: Version | Path | None, registry: Registry, holdout: pa.Table) -> Evaluation:
    """Measure a version, a folder that training has just written, or (None) the base, as a nightly job computes it.

    Raises:
        UserError: the metric cannot be computed, or the version cannot be loaded.
    """
    base: Pin | str = hub.pin(spec.base.model, spec.base.revision, "base.model")
    over: Pin | str | None = None
    if isinstance(version, Path):
        base, over = (str(version), None) if spec.method == "full" else (base, str(version))
    elif version is not None:
        pin = hub.pin(f"{registry.url}@{version.version}", None, "registry")
        base, over = (pin, None) if version.kind == "model" else (base, pin)
    return evaluate(spec.task, base, over, holdout, spec.gate.metric, spec.slices, spec.options)


def version_of(registry: Registry, name: str | None) -> Version | None:
    """A version by its name, or the champion; None for the base.

    Args:
        registry: the registry.
        name: a version, `champion` or `base`; None for the champion if there is one, else the base.

    Raises:
        SpecError: there is no champion.
        ModelError: there is no such version.
    """
    if name == "base":
        return None
    if name in (None, "champion"):
        champion = registry.champion()
        if champion is None and name is not None:
            raise SpecError(f"registry {registry.url!r} has no champion; give a version, or base")
        return None if champion is None else registry.version(champion.version)
    assert name is not None
    return registry.version(name)


def weights(metric: str, holdout: pa.Table) -> ClassWeights | None:
    """How much a row of each label counts for the gate; None if all rows count alike.

    Macro F1 is no mean over rows, so it cannot be tested row by row; correctness weighted by label stands for it.
    """
    labels = holdout.column("label").to_pylist() if metric == "macro_f1" else []
    if not labels or any(not isinstance(label, str) for label in labels):
        return None
    return class_weights(Counter(labels))
