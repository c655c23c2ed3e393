"""Versions of a registry on the holdout, and the weights with which their rows count for the gate."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.evaluation import perplexity, preferences, rewards
from jobs.evaluation.evaluate import Evaluation, evaluate
from jobs.evaluation.labels import ClassWeights, class_weights
from jobs.evaluation.metrics import PERPLEXITY, measure, signs
from jobs.evaluation.predict import predict, prepare
from jobs.models import hub
from jobs.models.hub import Pin
from jobs.registry import Registry, Version
from jobs.retraining import reward_models
from jobs.training.data import Rows
from jobs.training.rewards import Scorer
from jobs.training.sections import PROMPTED
from jobs.training.spec import TrainingSpec
from transforms.errors import SpecError


def score(spec: TrainingSpec, version: Version | Path | None, registry: Registry, rows: Rows) -> Evaluation:
    """Measure a version, a folder that training has just written, or (None) the base, as a nightly job computes it.

    The notes of what was measured name the labels of the training rows that the holdout lacks, and the reverse.

    Raises:
        UserError: the metric cannot be computed, or the version cannot be loaded.
    """
    model, adapter = _pins(spec, version, registry)
    if spec.objective in PROMPTED:
        return _rewarded(spec, version, registry, rows)
    if spec.objective in preferences.OBJECTIVES:
        return _preferences(spec, (model, adapter), rows.holdout)
    scored = evaluate(spec.task, model, adapter, rows.holdout, spec.gate.metric, spec.slices, spec.options, rows.labels)
    if not rows.unlearnt:
        return scored
    names = ", ".join(map(repr, rows.unlearnt))
    note = f"the training rows have no row of {names}, which the holdout has, so that these labels are not learnt"
    return replace(scored, measured=replace(scored.measured, notes=[*scored.measured.notes, note]))


def correctness(
    spec: TrainingSpec,
    version: Version,
    registry: Registry,
    table: pa.Table,
    rows: Rows,
    scored: Evaluation,
) -> np.ndarray:
    """How right a version is on each of some rows, from 0 to 1, or the rewards of its answers; float64 `(rows,)`.

    The rows are measured together with the holdout, because a metric may not exist for a few rows alone: ten rows
    without an entity have no entity F1.

    Args:
        spec: the training file.
        version: the version.
        registry: that it is in.
        table: labelled rows with the canonical columns of the task.
        rows: the rows of the training file.
        scored: the version on the holdout.

    Raises:
        UserError: the version cannot be loaded.
    """
    if spec.objective in PROMPTED:
        scorer = Scorer(reward_models.reward_of(spec, rows, registry))
        return rewards.answers(*_pins(spec, version, registry), table, scorer, spec.options).rewards
    if spec.objective in preferences.OBJECTIVES:
        return _preferences(spec, _pins(spec, version, registry), table).measured.correctness
    prepared = prepare(spec.task, *_pins(spec, version, registry), table, spec.options)
    if scored.measured.metric == PERPLEXITY:
        return perplexity.measure(prepared).correctness
    names = list(spec.learnt)
    holdout = rows.holdout
    together = pa.concat_tables([holdout.select(names), table.select(names)], promote_options="permissive")
    values = [scored.predictions.values, predict(prepared).values]
    return measure(spec.task, together, pa.concat_arrays(values), scored.measured.metric).correctness[len(holdout) :]


def differences(spec: TrainingSpec, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much better the second version is on each row, from -1 to 1.

    Args:
        spec: the training file.
        before: `correctness` of the first version.
        after: `correctness` of the second.
    """
    return signs(before, after) if spec.objective in PROMPTED else after - before


def _rewarded(spec: TrainingSpec, version: Version | Path | None, registry: Registry, rows: Rows) -> Evaluation:
    """A policy on the prompts of the holdout, beside the base."""
    metric = rewards.check_metric(spec.gate.metric)
    scorer = Scorer(reward_models.reward_of(spec, rows, registry))
    base = rewards.answers(*_pins(spec, None, registry), rows.holdout, scorer, spec.options)
    own = base
    if version is not None:
        own = rewards.answers(*_pins(spec, version, registry), rows.holdout, scorer, spec.options)
    return rewards.evaluate(own, base, rows.holdout, metric, spec.slices)


def _preferences(spec: TrainingSpec, version: preferences.Version, table: pa.Table) -> Evaluation:
    """A version on held-out preferences."""
    base = hub.pin(spec.base.model, spec.base.revision, "base.model")
    slices = [name for name in spec.slices if name in table.schema.names]
    return preferences.evaluate(spec.objective, version, base, table, spec.gate.metric, slices, spec.options)


def _pins(spec: TrainingSpec, version: Version | Path | None, registry: Registry) -> tuple[Pin | str, Pin | str | None]:
    """Model and adapter of a version."""
    base: Pin | str = hub.pin(spec.base.model, spec.base.revision, "base.model")
    if isinstance(version, Path):
        return (str(version), None) if spec.method == "full" else (base, str(version))
    if version is None:
        return base, None
    pin = hub.pin(f"{registry.url}@{version.version}", None, "registry")
    return (pin, None) if version.kind == "model" else (base, pin)


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
