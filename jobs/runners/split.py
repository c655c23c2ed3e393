"""How the cores of this machine are divided between processes and torch's threads: `runner.workers: auto`.

One process a GPU. On a CPU the divisions are measured once for a machine and its models, and kept in the user's cache;
a job of less than about a minute is one process, because a process takes seconds to start.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
from pydantic import TypeAdapter, ValidationError

from jobs.execute import cores, measured
from jobs.execute.sample import first_rows
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.runners import trial
from jobs.runners.trial import Pieces, Speeds
from jobs.source import Shard
from transforms.errors import NightscribeError, Stopped

LOG = logging.getLogger(__name__)

# Seconds of one process from which several are tried: starting them and the trials take 10 to 20 s.
WORTH_S = 60.0
# A job of so few rows is not even timed.
FEW_ROWS = 256
# How much faster several processes must be, because they take more memory.
GAIN = 1.05
# Share of the cores that must be idle for a comparison.
IDLE = 0.8
# Share of the free memory that the processes may take.
MEMORY = 0.8
# Rows of the first look at the speed, and how long it takes at least.
FIRST_ROWS, FIRST_S = 8, 0.2

_FORM = TypeAdapter(Speeds)


@dataclass(frozen=True)
class Split:
    """A division of this machine.

    Attributes:
        workers: processes that execute shards at a time.
        why: the reason, for a person.
        cores: that they share; None for all.
    """

    workers: int
    why: str
    cores: int | None = None

    def __str__(self) -> str:
        """One line: `2 processes with 1 thread each: 1.24 times the speed of one`."""
        if self.workers == 1:
            return f"1 process: {self.why}"
        threads = max(1, (self.cores or cores.available()) // self.workers)
        return f"{self.workers} processes with {threads} thread{'s' * (threads > 1)} each: {self.why}"


def workers_of(plan: Plan) -> int:
    """The processes that execute the shards of a plan on this machine; measured here if that is worth it.

    Args:
        plan: a plan whose `todo` is what this machine has to do.
    """
    return choose(plan, plan.shards_todo, ModelPool()).workers


def choose(plan: Plan, todo: Sequence[Shard], models: ModelPool, stop: StopToken = NEVER) -> Split:
    """The division of this machine for some shards of a plan.

    Args:
        plan: the run.
        todo: the shards to execute.
        models: takes the models that are loaded for a look at the speed; emptied if other processes do the work.
        stop: ends the trials.

    Raises:
        Stopped: the run was asked to stop.
    """
    try:
        split = _known(plan, todo) or _measured(plan, todo, models, stop)
    except Stopped:
        raise
    except Exception as error:
        # What is wrong with a file, a row, a model or code of the user is told by the run itself.
        LOG.warning("runner.workers: auto could not be measured: %s", error)
        split = Split(1, "other divisions could not be measured")
    if split.workers > 1:
        models.clear()
    split = replace(split, cores=plan.threads)
    if plan.spec.runner.workers == "auto":
        LOG.info("run %s: %s", plan.run_id, split)
    return split


def fixed(plan: Plan, split: Split) -> Plan:
    """The plan with the number of processes in place of `auto`."""
    runner = plan.spec.runner.model_copy(update={"workers": split.workers})
    return replace(plan, spec=plan.spec.model_copy(update={"runner": runner}))


def expected(plan: Plan) -> str:
    """What `choose` will say, as far as it is known without loading a model."""
    if isinstance(workers := plan.spec.runner.workers, int):
        return str(Split(workers, "runner.workers"))
    try:
        split = _known(plan, plan.shards_todo)
    except (NightscribeError, OSError, ValueError) as error:
        # The run tells what is wrong with a file; a plan does not read rows otherwise.
        LOG.debug("the first rows could not be read: %s", error)
        split = None
    return "auto: measured when the run starts" if split is None else str(split)


def environments(plan: Plan) -> list[dict[str, str]]:
    """The environment variables of each worker process of a plan: the GPU that it uses, in turn."""
    workers = 1 if plan.spec.runner.workers == "auto" else plan.spec.runner.workers
    devices = cores.gpus() if workers > 1 and _on_gpu(plan) else 0
    return [{"CUDA_VISIBLE_DEVICES": cores.visible(i % devices)} if devices else {} for i in range(workers)]


def largest_first(shards: Sequence[Shard]) -> list[Shard]:
    """Shards in the order in which they are dealt out, so that each process gets about as many rows."""
    return sorted(shards, key=_rows, reverse=True)


def _known(plan: Plan, todo: Sequence[Shard]) -> Split | None:
    """The division, if it is clear or was measured before."""
    if isinstance(workers := plan.spec.runner.workers, int):
        return Split(workers, "runner.workers")
    if "direct_running_mode" in plan.spec.runner.options:
        return Split(1, "runner.options has direct_running_mode")
    if len(todo) < 2:
        return Split(1, f"{len(todo)} shard to do")
    if _on_gpu(plan):
        return _of_gpus(plan, todo)
    if cores.available() < 2:
        return Split(1, "1 core")
    if any(task.engine == "onnx" or task.device not in ("cpu", "auto") for task in plan.tasks if task.model):
        return Split(1, "divisions are measured for engine torch on a CPU")
    rows = sum(map(_rows, todo))
    if plan.attempts is not None or plan.donors or not all(_rows(shard) for shard in todo):
        return Split(1, "it is not known how many rows have to be computed")
    if rows <= FEW_ROWS:
        return Split(1, f"{rows:,} rows to do")
    kept = _read(plan)
    if kept is None or 1 not in kept.by_workers:
        return None
    if (seconds := _weight(plan, rows) / kept.by_workers[1]) < WORTH_S:
        return _small(seconds)
    return None if len(kept.by_workers) == 1 else _best(kept, todo, seconds)


def _of_gpus(plan: Plan, todo: Sequence[Shard]) -> Split:
    if any(task.spec.device_map for task in plan.tasks):
        return Split(1, "device_map spreads the model over the GPUs")
    count = min(devices := cores.gpus(), len(todo))
    if count < 2 or sum(map(_rows, todo)) <= FEW_ROWS:
        return Split(1, f"{devices} GPU{'s' * (devices != 1)}, {len(todo)} shards to do")
    return Split(count, f"one for each of {devices} GPUs")


def _measured(plan: Plan, todo: Sequence[Shard], models: ModelPool, stop: StopToken) -> Split:
    """Time the tasks in this process, and, if the job is large enough, in several at a time."""
    sample = first_rows(plan, trial.ROWS)
    if len(sample) < FIRST_ROWS:
        return Split(1, "there are few rows to do")
    first = Pieces.of(sample, FIRST_ROWS)
    cores.share(1, plan.threads)
    trial.speed(plan, models, replace(first, batches=first.batches[:1]), 0)
    stop.check()
    speed = trial.speed(plan, models, first, FIRST_S)
    rows = sum(map(_rows, todo))
    mean = sum(first.weights) / len(sample)
    seconds = rows * mean / speed
    if seconds < WORTH_S:
        _write(plan, Speeds({1: speed}, 0.0, 0))
        return _small(seconds)
    candidates = _candidates(plan.threads or cores.available(), len(todo), psutil.Process().memory_full_info().uss)
    if len(candidates) == 1:
        return Split(1, "memory is too small for a second copy of the models")
    if cores.idle() < IDLE * cores.available():
        # More processes get more of a machine that is shared with others, which says nothing about an idle one.
        return Split(1, "other programs use the cores, so that no divisions could be compared; a later run will")
    LOG.info("run %s: trying %s processes", plan.run_id, " and ".join(str(workers) for workers, _ in candidates))
    lowest, highest = trial.PIECE_ROWS
    pieces = Pieces.of(sample, max(lowest, min(highest, int(trial.PIECE_S * speed / mean))))
    found = trial.several(plan, pieces, candidates, stop)
    _write(plan, found)
    return _best(found, todo, rows * mean / found.by_workers[1])


def _candidates(available: int, shards: int, memory: int) -> list[tuple[int, int]]:
    """(processes, threads of each) to try: powers of two, and a process for each core, as far as memory allows."""
    most = min(available, shards, int(MEMORY * cores.memory() // max(1, memory)))
    counts = sorted({1, available, *(2**i for i in range(available.bit_length()))})
    return [(count, available // count) for count in counts if count == 1 or count <= most]


def _best(speeds: Speeds, todo: Sequence[Shard], seconds: float) -> Split:
    """The division that is done first, its start and the unequal sizes of the shards included.

    Args:
        speeds: what was measured.
        todo: the shards to execute.
        seconds: that one process takes.
    """
    room = MEMORY * cores.memory()
    takes = {1: seconds}
    for workers, speed in speeds.by_workers.items():
        if workers > 1 and workers <= len(todo) and workers * speeds.memory <= room:
            takes[workers] = speeds.start_s + seconds * speeds.by_workers[1] / speed * _imbalance(todo, workers)
    best = min(takes, key=lambda workers: takes[workers] * (GAIN if workers > 1 else 1))
    if best > 1:
        return Split(best, f"about {takes[1] / takes[best]:.2f} times the speed of one, measured on this machine")
    others = sorted(workers for workers in speeds.by_workers if workers > 1)
    if len(takes) == 1 and others:
        return Split(1, "memory or shards are too few for more")
    nearest = min(others, key=lambda workers: takes.get(workers, float("inf")))
    return Split(1, f"{nearest} have {takes[1] / takes[nearest]:.2f} times its speed, measured on this machine")


def _imbalance(todo: Sequence[Shard], workers: int) -> float:
    """The rows of the process that gets most, relative to an equal share."""
    dealt = [sum(map(_rows, largest_first(todo)[i::workers])) for i in range(workers)]
    return max(dealt) * workers / max(1, sum(dealt))


def _small(seconds: float) -> Split:
    return Split(1, f"about {max(1, round(seconds))} s of work, and several processes take that long to start")


def _rows(shard: Shard) -> int:
    rows = shard.rows if shard.rows is not None else shard.about_rows or 0
    return rows if shard.limit is None else min(rows, shard.limit)


def _weight(plan: Plan, rows: int) -> float:
    """Code points of rows, by those of the first ones."""
    sample = first_rows(plan, trial.ROWS)
    return rows * float(trial.weigh(sample).mean()) if len(sample) else 0.0


def _on_gpu(plan: Plan) -> bool:
    """Whether the models of a plan are on a GPU that the job does not choose by number."""
    return any(task.model is not None and task.device == "cuda" for task in plan.tasks)


def _read(plan: Plan) -> Speeds | None:
    """What was measured before; None if nothing was, or if the file is damaged."""
    try:
        return _FORM.validate_json(_file(plan).read_bytes())
    except (OSError, ValidationError):
        return None


def _write(plan: Plan, speeds: Speeds) -> None:
    measured.keep(_file(plan), _FORM.dump_json(speeds))


def _file(plan: Plan) -> Path:
    """Where the speeds of this machine and the models of a plan are kept."""
    return measured.file(
        "splits",
        {
            "tasks": [
                task.identity | {"dtype": task.dtype, "engine": task.engine, "max_tokens": task.max_tokens}
                for task in plan.tasks
            ],
            "threads": plan.threads,
        },
    )
