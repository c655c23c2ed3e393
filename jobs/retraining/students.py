"""A student beside its teacher: how certainly the two agree, and whether the champion is the teacher itself."""

from __future__ import annotations

from jobs import registry as registries
from jobs.evaluation.evaluate import Evaluation
from jobs.gate import eprocess
from jobs.gate.eprocess import Draw
from jobs.registry import Registry
from jobs.training.spec import TrainingSpec


def agreement(spec: TrainingSpec, scored: Evaluation) -> float | None:
    """Lower end of the confidence interval of the agreement with the teacher; None without a teacher.

    The truth of the holdout is what the teacher gives, so that the agreement is the mean correctness of its rows.

    Args:
        spec: the training file.
        scored: the student on the holdout.
    """
    if spec.teacher is None:
        return None
    rows = tuple(float(value) for value in scored.measured.correctness)
    return max(0.0, eprocess.interval([Draw.whole(rows)], spec.gate.confidence)[0])


def is_teacher(spec: TrainingSpec, registry: Registry, version: str) -> bool:
    """Whether a version of the registry is the teacher; a student cannot be better than it at agreeing with it."""
    if spec.teacher is None:
        return False
    for reference in (spec.teacher.adapter, spec.teacher.model):
        found = None if reference is None else registries.resolve(reference, "teacher")
        if found is not None and found[0].url == registry.url and found[1].version == version:
            return True
    return False
