"""What the answers of a training file are scored with, on every night after its training too."""

from __future__ import annotations

from jobs.models import hub
from jobs.registry import Registry, Version
from jobs.retraining import challengers
from jobs.training import rewards
from jobs.training.data import Rows
from jobs.training.rewards import Folders, Reward
from jobs.training.sections import RewardSpec
from jobs.training.spec import TrainingSpec
from transforms.errors import SpecError


def reward_of(spec: TrainingSpec, rows: Rows, registry: Registry) -> Reward:
    """What the answers of a training file are scored with, from the registry where a stage has made it.

    Raises:
        UserError: there is no reward, or it cannot be used.
    """
    made = None
    named = spec.reward is not None and spec.reward.model is not None
    for stage, own in zip(spec.earlier, rows.earlier, strict=True):
        if stage.objective == "reward" and not named:
            made = _folders(stage, challengers.made(stage, own, registry), registry)
    return rewards.pin(spec.reward or RewardSpec(), made)


def _folders(stage: TrainingSpec, version: Version | None, registry: Registry) -> Folders:
    if version is None:
        raise SpecError(
            f"registry {registry.url!r} has no reward model of stage {stage.name} and these rows; run nightscribe train"
        )
    folder = str(registry.folder(version.version))
    if version.kind == "model":
        return Folders(folder, None, version.content)
    base = hub.pin(stage.base.model, stage.base.revision, "base.model")
    return Folders(base.folder(), folder, version.content)
