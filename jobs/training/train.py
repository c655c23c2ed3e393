"""Trains what a training file asks for, in a process of its own, and goes on where the folder of the training is."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from jobs.execute.stop import NEVER, StopToken
from jobs.models import hub
from jobs.training import methods, processes, rewards, supervise, support
from jobs.training import request as files
from jobs.training.data import Rows
from jobs.training.request import Request
from jobs.training.rewards import Folders
from jobs.training.spec import TrainingSpec
from jobs.training.supervise import Watch
from transforms.errors import ModelError, RunError


@dataclass(frozen=True)
class Before:
    """What earlier stages of a training file have made.

    Attributes:
        start: folder of the policy that the training goes on from; None for a new one.
        start_hash: hash of everything that the policy was trained from.
        reward: the reward model of an earlier stage.
    """

    start: str | None = None
    start_hash: str | None = None
    reward: Folders | None = None


NOTHING = Before()


@dataclass(frozen=True)
class Result:
    """A finished training.

    Attributes:
        folder: the adapter, or the model for `method: full`.
        curves: step, and loss or eval_loss, of each report.
        seconds: time of the training, of the last process if it was continued.
        resumed: whether it went on from a checkpoint.
        labels: names of the outputs in their order; empty for tasks without a head.
        losses: Parquet file with the loss and probabilities of classified training rows whose labels were not learnt,
            see `jobs.training.held_out`; None for other tasks.
        base: model, commit and fingerprint of the base.
        batch: rows_at_once of a process, batches accumulated in a step, and processes.
    """

    folder: Path
    curves: list[dict[str, Any]]
    seconds: float
    resumed: bool
    labels: list[str]
    losses: Path | None
    base: dict[str, str]
    batch: dict[str, int] = field(default_factory=dict)


def train(
    spec: TrainingSpec,
    rows: Rows,
    folder: Path,
    watch: Watch | None = None,
    stop: StopToken = NEVER,
    before: Before = NOTHING,
) -> Result:
    """Train, or go on with the training that the folder holds.

    Args:
        spec: the training file.
        rows: its rows.
        folder: folder of the training; with the same file and rows it is continued from its last checkpoint, or its
            result is returned; otherwise its contents are replaced.
        watch: called with each line of the progress: step, steps, loss, eval_loss or memory (a sentence), seconds.
        stop: ends the training within seconds; checkpoints are kept.
        before: what earlier stages of the same file have made.

    Raises:
        ModelError: the base does not fit the task, or refuses the settings.
        RunError: the training failed, or another one runs in the folder.
        Stopped: it was asked to stop.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / files.LOCK, timeout=0):
            request = request_of(spec, rows, before)
            _prepare(folder, request, rows)
            if not (folder / files.RESULT_JSON).is_file():
                while supervise.supervise(folder, watch or (lambda line: None), stop):
                    # Memory was too small: all processes again, with half the rows at once.
                    request = Request.read(folder)
                    replace(request, parts=request.parts * 2).write(folder)
            return _result(folder)
    except Timeout as error:
        raise RunError(f"another training runs in {str(folder)!r}; wait for its end, or use another folder") from error


def request_of(spec: TrainingSpec, rows: Rows, before: Before = NOTHING) -> Request:
    """What the child process is asked to do; the base is downloaded if needed.

    Args:
        spec: the training file, or one of its stages.
        rows: its rows.
        before: what earlier stages have made.

    Raises:
        ModelError: there is no such base, it cannot be trained this way, or the machine has not what that needs.
    """
    from jobs.training import fit
    from transforms.checkpoint import config as configs
    from transforms.checkpoint import fingerprint

    processes.refuse(spec.layout, spec.arguments())
    if why := methods.complaint(spec.method, spec.training):
        raise ModelError(why)
    pin = hub.pin(spec.base.model, spec.base.revision, "base.model")
    base = pin.folder()
    config = configs.read(base)
    kind = support.architecture(config)
    why = support.refusal(spec.method, spec.objective, spec.task, kind) or support.base_refusal(spec.method, config)
    if why:
        raise ModelError(f"base.model: {why}")
    fit.check(spec, rows, base, config)
    reward = None if spec.reward is None else rewards.pin(spec.reward, before.reward)
    request = Request(
        task=spec.task,
        method=spec.method,
        base=base,
        base_name=str(Path(base).resolve()) if pin.local else pin.name,
        base_commit=pin.commit,
        base_fingerprint=fingerprint.of(base),
        labels=rows.labels,
        options=spec.options,
        arguments=spec.arguments(),
        adapter=spec.peft(),
        train_hash=rows.train_hash,
        objective=spec.objective,
        teacher=_teacher(spec),
        processes=spec.layout.processes,
        mixed_precision=spec.layout.mixed_precision,
        accelerate_config=spec.layout.accelerate_config,
        reward={} if reward is None else asdict(reward),
        start=before.start,
        start_hash=before.start_hash,
    )
    if reward is not None:
        from jobs.training import policy

        policy.check(request, pa.concat_tables([rows.train, rows.validation]))
    return request


def _teacher(spec: TrainingSpec) -> dict[str, str]:
    if spec.teacher is None:
        return {}
    found = {"model": hub.pin(spec.teacher.model, spec.teacher.revision, "teacher.model", spec.task).version}
    if spec.teacher.adapter is not None:
        found["adapter"] = hub.pin(spec.teacher.adapter, None, "teacher.adapter", spec.task).version
    return found


def _prepare(folder: Path, request: Request, rows: Rows) -> None:
    """Write what the child reads; remove what another training left in the folder."""
    if (folder / files.REQUEST).is_file() and (before := Request.read(folder)).digest == request.digest:
        # It may go on with another number of processes.
        replace(request, parts=before.parts).write(folder)
        return
    for path in folder.iterdir():
        if path.name != files.LOCK:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    pq.write_table(rows.train, folder / files.TRAIN)
    pq.write_table(rows.validation, folder / files.VALIDATION)
    request.write(folder)


def _result(folder: Path) -> Result:
    content = json.loads((folder / files.RESULT_JSON).read_text(encoding="utf-8"))
    base = json.loads((folder / files.RESULT / "base.json").read_text(encoding="utf-8"))
    losses = folder / files.LOSSES
    return Result(
        folder / files.RESULT,
        [entry for entry in content["curves"] if len(entry) > 1],
        content["seconds"],
        content["resumed"],
        content["labels"],
        losses if losses.is_file() else None,
        base,
        content["batch"],
    )
