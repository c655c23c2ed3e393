"""What the child process is asked to do, as JSON, and the names of the files in the folder of a training."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobs.training import processes

REQUEST = "request.json"
TRAIN, VALIDATION = "train.parquet", "validation.parquet"
PROGRESS = "progress.jsonl"
CHECKPOINTS = "checkpoints"
RESULT, RESULT_JSON = "result", "result.json"
LOSSES = "losses.parquet"
ERROR = "error.json"
ENDED = "ended.json"
LOG = "child.log"
LOCK = "lock"


# What changes where and how fast a training runs, and not what it learns; mixed_precision is in the arguments.
NOT_IN_DIGEST = ("base", "start", "losses", "processes", "mixed_precision", "accelerate_config", "parts")


@dataclass(frozen=True)
class Request:
    """One training.

    Attributes:
        task: the task that the version serves.
        method: one of `support.METHODS`.
        base: folder of the base model.
        base_name: the base as the adapter names it: a Hub name, or an absolute folder.
        base_commit: Hub commit, or hash of the folder.
        base_fingerprint: hash of the base's weights.
        labels: names of the labels, or of the kinds of entities; empty for other tasks.
        options: options of the task, as in a job file.
        arguments: fields of the library's arguments class.
        adapter: fields of peft's configuration class of the method.
        train_hash: hash of the training rows, validation rows included.
        objective: one of the keys of `support.TASKS`.
        reward: what written answers are scored with: `model` (folder), `commit`, `functions`; empty for other
            objectives.
        teacher: commits of the model and the adapter of a teacher; empty without one.
        start: folder of the adapter, or of the whole model, that the training goes on from; None for a new one.
        start_hash: hash of that folder.
        losses: whether the losses of rows whose labels are not learnt are written (classify only).
        processes: how many processes train.
        mixed_precision: no, fp16 or bf16, if the training file says so; it is also in `arguments`.
        accelerate_config: file for `accelerate launch`; None for plain torchrun.
        parts: into how many parts the rows that a process computes at once are split, because memory was too small.
    """

    task: str
    method: str
    base: str
    base_name: str
    base_commit: str
    base_fingerprint: str
    labels: tuple[str, ...]
    options: dict[str, Any]
    arguments: dict[str, Any]
    adapter: dict[str, Any]
    train_hash: str
    objective: str = "supervised"
    reward: dict[str, Any] = field(default_factory=dict)
    teacher: dict[str, Any] = field(default_factory=dict)
    start: str | None = None
    start_hash: str | None = None
    losses: bool = True
    processes: int = 1
    mixed_precision: str | None = None
    accelerate_config: str | None = None
    parts: int = 1

    @property
    def digest(self) -> str:
        """A hash of everything that changes the trained weights; checkpoints of another one are not continued.

        The rows of a step are part of it, and not how many processes compute them, or how many at once.
        """
        content = {key: value for key, value in asdict(self).items() if key not in NOT_IN_DIGEST}
        content["arguments"] = processes.learnt(self.arguments | {"processes": self.processes})
        # A reward model is known by its commit, wherever it lies.
        content["reward"] = {key: value for key, value in self.reward.items() if key not in ("model", "adapter")}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    @classmethod
    def read(cls, folder: Path) -> Request:
        """The request in a folder."""
        content = json.loads((folder / REQUEST).read_text(encoding="utf-8"))
        return cls(**content | {"labels": tuple(content["labels"])})

    def write(self, folder: Path) -> None:
        """Save it in a folder."""
        write_json(folder / REQUEST, asdict(self))


def write_json(file: Path, content: Any) -> None:
    """Write JSON so that a reader sees the whole file or none."""
    os.replace(_temporary(file, content), file)


def write_first(file: Path, content: Any) -> None:
    """Write JSON unless another process was first."""
    temporary = _temporary(file, content)
    try:
        os.link(temporary, file)
        temporary.unlink()
    except FileExistsError:
        temporary.unlink()
    except OSError:
        # Some file systems have no links; there the last error stays.
        os.replace(temporary, file)


def _temporary(file: Path, content: Any) -> Path:
    temporary = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    return temporary
