"""Trains the stages of a training file one after another: each goes on from what those before it have made.

A policy goes on from the policy of the stage before, whose adapter stays trainable; its divergence is measured from
there. The reward model of a stage scores the answers of later ones. Each stage has a folder of its own, whose request
names everything before it, so that a training that was killed repeats no finished stage.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from jobs.execute.stop import NEVER, StopToken
from jobs.training import train
from jobs.training.data import Rows
from jobs.training.request import Request
from jobs.training.rewards import Folders
from jobs.training.spec import TrainingSpec
from jobs.training.supervise import Watch
from jobs.training.train import Before, Result


def run(spec: TrainingSpec, rows: Rows, folder: Path, watch: Watch | None = None, stop: StopToken = NEVER) -> Result:
    """Train all stages, or go on where the folder is.

    Args:
        spec: the training file.
        rows: the rows of its last stage, which have those of the others.
        folder: folder of the training; each stage has a folder in it.
        watch: called with each line of the progress, which has the name of its stage.
        stop: ends the training within seconds; what is finished is kept.

    Returns:
        The result of the last stage, with the curves of all of them.

    Raises:
        ModelError: as `train.train`.
        RunError: as `train.train`.
        Stopped: it was asked to stop.
    """
    if not spec.stages:
        return train.train(spec, rows, folder, watch, stop)
    names = [stage["name"] for stage in spec.stages]
    before, curves, seconds = Before(), [], 0.0
    every = zip(names, [*spec.earlier, spec], [*rows.earlier, rows], strict=True)
    for number, (name, stage, own) in enumerate(every):
        place = stage_folder(folder, number, name)
        # A reward model is no policy: it begins with its base.
        start = Before() if stage.objective == "reward" else before
        result = train.train(stage, own, place, _named(watch, name), stop, start)
        before = _after(before, stage, Request.read(place), result)
        curves += [entry | {"stage": name} for entry in result.curves]
        seconds += result.seconds
    return replace(result, curves=curves, seconds=round(seconds, 2))


def stage_folder(folder: Path, number: int, name: str) -> Path:
    """The folder of a stage in that of the training."""
    return folder / f"{number}-{name}"


def _after(before: Before, stage: TrainingSpec, request: Request, result: Result) -> Before:
    """What a finished stage leaves to the next ones."""
    if stage.objective == "reward":
        adapter = None if stage.method == "full" else str(result.folder)
        model = request.base if adapter else str(result.folder)
        return replace(before, reward=Folders(model, adapter, request.digest))
    return replace(before, start=str(result.folder), start_hash=request.digest)


def _named(watch: Watch | None, name: str) -> Watch:
    def named(line: dict[str, Any]) -> None:
        if watch is not None:
            watch(line | {"stage": name})

    return named
