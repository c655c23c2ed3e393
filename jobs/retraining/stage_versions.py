"""The reward models that stages of a training file have made, as versions of its registry."""

from __future__ import annotations

from pathlib import Path

from jobs.registry import Registry
from jobs.retraining import challengers, scores
from jobs.training import request, stages
from jobs.training.data import Rows
from jobs.training.spec import TrainingSpec


def keep(spec: TrainingSpec, rows: Rows, folder: Path, registry: Registry) -> list[str]:
    """Measure the reward models of the earlier stages and add them to the registry; they never become its champion.

    Args:
        spec: the training file.
        rows: its rows.
        folder: of the training, whose stages are finished.
        registry: of the training file.

    Returns:
        A sentence for the report about each of them.
    """
    notes = []
    for number, (stage, own) in enumerate(zip(spec.earlier, rows.earlier, strict=True)):
        if stage.objective != "reward":
            continue
        version = challengers.made(stage, own, registry)
        if version is None:
            result = stages.stage_folder(folder, number, stage.name) / request.RESULT
            version = registry.add(result, challengers.about(stage, own, scores.score(stage, result, registry, own)))
        metric, value = next(iter(version.metrics.items()))
        notes.append(
            f"stage {stage.name}: reward model {version.version}, {metric} {value:.4f} on {version.rows_holdout:,} "
            f"pairs of its holdout, trained on {version.rows_train:,}"
        )
    return notes
