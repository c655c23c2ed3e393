"""How fast the tasks of a plan are on some of its rows: in this process, and in several at a time.

`python -m jobs.runners.trial` is one of several: it reads the plan and the rows from its input, then the number of
threads of each trial, and answers with the speed.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc

from jobs.execute.shard import Chunk, annotate
from jobs.execute.stop import StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from transforms.errors import RunError

# Rows of a sample, and of a piece of it, which is computed at a time: as many as take this long, within limits.
ROWS = 256
PIECE_S = 0.25
PIECE_ROWS = (4, 64)
# How long a trial computes at least.
TRIAL_S = 1.5
# Code points that a row without text counts for.
ROW_WEIGHT = 16
# Time between two looks at a run that may have been asked to stop.
LOOK_S = 0.1


@dataclass(frozen=True)
class Pieces:
    """A sample in pieces that take about the same time, since each has short and long texts.

    Attributes:
        batches: the rows.
        weights: code points of the texts of each.
    """

    batches: tuple[pa.RecordBatch, ...]
    weights: tuple[int, ...]

    @classmethod
    def of(cls, sample: pa.RecordBatch, rows: int) -> Pieces:
        """Divide a sample.

        Args:
            sample: the rows.
            rows: of a piece.
        """
        weights = weigh(sample)
        order, pieces = np.argsort(weights, kind="stable"), max(1, len(sample) // rows)
        taken = [np.sort(order[i::pieces]) for i in range(pieces)]
        return cls(tuple(sample.take(pa.array(each)) for each in taken), tuple(int(weights[t].sum()) for t in taken))


@dataclass(frozen=True)
class Speeds:
    """What trials have found.

    Attributes:
        by_workers: number of processes -> code points a second of all together.
        start_s: seconds until a process has loaded its models.
        memory: bytes that a process has for itself.
    """

    by_workers: dict[int, float]
    start_s: float
    memory: int


def weigh(batch: pa.RecordBatch) -> np.ndarray[Any, Any]:
    """The code points of the texts of each row, which the time of most tasks follows."""
    total = np.full(len(batch), ROW_WEIGHT, np.int64)
    for column in batch.columns:
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            total += np.asarray(pc.fill_null(pc.utf8_length(column), 0)).astype(np.int64)
    return total


def speed(plan: Plan, models: ModelPool, pieces: Pieces, seconds: float) -> float:
    """Code points a second in this process.

    Args:
        plan: the run.
        models: the tasks; those that are missing are loaded first.
        pieces: the rows.
        seconds: how long to compute at least.
    """
    done, began, number = 0, time.perf_counter(), 0
    while (taken := time.perf_counter() - began) < seconds or not number:
        chunk = Chunk(pieces.batches[number % len(pieces.batches)])
        for task in plan.tasks:
            chunk = annotate(chunk, task, models, plan)
        done += pieces.weights[number % len(pieces.batches)]
        number += 1
    return done / taken if taken else float(done)


def several(plan: Plan, pieces: Pieces, candidates: Sequence[tuple[int, int]], stop: StopToken) -> Speeds:
    """The speed of several processes at a time, for each of some divisions of the cores.

    Args:
        plan: the run.
        pieces: the rows.
        candidates: (processes, threads of each).
        stop: ends the trials.

    Raises:
        Stopped: the run was asked to stop.
        RunError: a process has ended early.
    """
    began = time.monotonic()
    with _started(plan, pieces, max(workers for workers, _ in candidates)) as started:
        ready = [_answer(process, stop) for process in started]
        start_s, memory = time.monotonic() - began, 0
        found: dict[int, list[float]] = {}
        # The first round warms up what is not loaded before it is needed; then each candidate has two turns.
        for turn in range(3):
            for workers, threads in candidates:
                if turn == 0 and workers != len(started):
                    continue
                for process in started[:workers]:
                    _tell(process, {"threads": threads, "seconds": 0 if turn == 0 else TRIAL_S})
                answers = [_answer(process, stop) for process in started[:workers]]
                memory = max(memory, *(int(answer["memory"]) for answer in answers))
                if turn:
                    found.setdefault(workers, []).append(sum(answer["speed"] for answer in answers))
    assert all(ready)
    return Speeds({workers: max(speeds) for workers, speeds in found.items()}, start_s, memory)


@contextmanager
def _started(plan: Plan, pieces: Pieces, count: int) -> Iterator[list[subprocess.Popen[str]]]:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, pieces.batches[0].schema) as writer:
        for batch in pieces.batches:
            writer.write_batch(batch)
    told = {"plan": plan.to_json(), "rows": base64.b64encode(sink.getvalue()).decode(), "weights": pieces.weights}
    started: list[subprocess.Popen[str]] = []
    command = [sys.executable, "-m", "jobs.runners.trial"]
    pipe = subprocess.PIPE
    try:
        for _ in range(count):
            started.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True))
            _tell(started[-1], told)
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def _tell(process: subprocess.Popen[str], what: Any) -> None:
    assert process.stdin is not None
    try:
        process.stdin.write(json.dumps(what) + "\n")
        process.stdin.flush()
    except BrokenPipeError as error:
        raise RunError(f"a trial process ended with exit code {process.wait()}") from error


def _answer(process: subprocess.Popen[str], stop: StopToken) -> dict[str, Any]:
    stop.check()
    assert process.stdout is not None
    # Not waited for without end: a signal to stop comes to this process alone.
    while not _has_line(process.stdout):
        stop.check()
    line = process.stdout.readline()
    if not line:
        raise RunError(f"a trial process ended with exit code {process.wait()}")
    return dict(json.loads(line))


def _has_line(stream: IO[str]) -> bool:
    import selectors

    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        return bool(selector.select(LOOK_S))


def main() -> None:
    """Load the models of a plan, then answer trials until the input ends."""
    # Libraries may print.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(what: Any) -> None:
        answers.write(json.dumps(what) + "\n")
        answers.flush()

    told = json.loads(sys.stdin.readline())
    plan, models = Plan.from_json(told["plan"]), ModelPool()
    with pa.ipc.open_stream(base64.b64decode(told["rows"])) as reader:
        pieces = Pieces(tuple(reader), tuple(told["weights"]))
    for task in plan.tasks:
        models.annotator(task)
    answer({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        if any(task.model is not None for task in plan.tasks):
            import torch

            torch.set_num_threads(asked["threads"])
        found = speed(plan, models, pieces, asked["seconds"])
        answer({"speed": found, "memory": psutil.Process().memory_full_info().uss})


if __name__ == "__main__":
    main()
