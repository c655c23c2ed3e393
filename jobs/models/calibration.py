"""How this machine computes the models of a plan: token positions of a batch, and torch's threads.

A long job measures both on its own rows before it begins; the result is kept in the user's cache, by machine and model,
for all later jobs. A short job takes what is kept, or the defaults. `tasks[].max_tokens` is used before all of them.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import TypeAdapter, ValidationError

from jobs.execute import cores, measured
from jobs.execute.sample import first_rows
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool, Narrowed
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.source import Shard
from transforms import registry
from transforms.architecture import WRITERS
from transforms.errors import Stopped
from transforms.options import column_of

LOG = logging.getLogger(__name__)

# Share of the expected work that a calibration may take, and the most that it takes.
SHARE, MOST_S = 0.05, 8.0
# Expected work from which one is worth it: a processor with AMX compares the two best budgets of DistilBERT's shape in
# half a second. Characters of the rows to do below which no model is loaded to see that; a job in several processes
# would load a model for this alone.
WORTH_S, FEW_CHARACTERS, FEW_IN_PROCESSES = 10.0, 200_000, 2_000_000
# Share of the threads that must be idle, since other programs slow down large batches and small ones differently.
IDLE = 0.8
# How many times the seconds a later job must allow to measure again what an earlier one had no time for.
MORE = 2.0
# Share of the seconds that budgets may take where numbers of threads are compared too.
BUDGETS_SHARE = 2 / 3
# Rows of the sample, and code points of a text of it: about a window of 512 tokens.
ROWS, TEXT_LENGTH = 256, 2500


@dataclass(frozen=True)
class Kept:
    """What is kept of a calibration.

    Attributes:
        budget: the fastest token positions of a batch.
        speeds: tokens a second with each budget that was tried.
        complete: whether all budgets that could be faster were tried.
        allowed_s: seconds that it was allowed to take; a job that allows many more tries more budgets.
        threads: the fastest number of torch's threads; None where there is no choice.
    """

    budget: int
    speeds: dict[int, float]
    complete: bool
    allowed_s: float
    threads: int | None = None

    @property
    def is_final(self) -> bool:
        """Whether no job would measure more, so that later runs compute what earlier ones did, to the last bit."""
        return self.complete or self.allowed_s >= MOST_S


_FORM = TypeAdapter(Kept)


def settle(plan: Plan, todo: Sequence[Shard], models: ModelPool, stop: StopToken = NEVER) -> tuple[Plan, list[str]]:
    """The plan with the budgets and threads of this machine; measured if the job is long enough.

    Args:
        plan: the run.
        todo: the shards that are to be executed here.
        models: takes the models that are loaded for this; emptied if other processes do the work.
        stop: asks the run to stop.

    Returns:
        The plan; a line for each task that has batches, for the log and the report.

    Raises:
        Stopped: the run was asked to stop.
    """
    try:
        chosen = [_of_task(plan, task, todo, models, stop) for task in plan.tasks]
    except Stopped:
        raise
    except Exception as error:
        # What is wrong with a file, a row, a model or code of the user is told by the run itself.
        why = f"{type(error).__name__}: {error}"
        LOG.warning("the batches of run %s could not be measured: %s", plan.run_id, why)
        chosen = _kept(plan)
    finally:
        if plan.spec.runner.is_here and plan.spec.runner.workers not in ("auto", 1):
            models.clear()
    plan, lines = _with(plan, chosen)
    for line in lines:
        LOG.info("run %s: %s", plan.run_id, line)
    return plan, lines


def known(plan: Plan) -> tuple[Plan, list[str]]:
    """The plan with what is kept of earlier calibrations, without measuring; as `settle` returns it."""
    return _with(plan, _kept(plan))


def budget(task: TaskPlan) -> int:
    """Token positions of a batch of a task with a model, padding included."""
    return task.max_tokens or default(task)


def default(task: TaskPlan) -> int:
    """The same on a machine that has measured nothing."""
    # Imported here because it imports torch.
    from transforms.batches import usual

    return usual(_kind(task), task.dtype)


def _kept(plan: Plan) -> list[tuple[Kept, str] | None]:
    return [(kept, "kept") if (kept := _read(plan, task)) else None for task in plan.tasks]


def _with(plan: Plan, chosen: Sequence[tuple[Kept, str] | None]) -> tuple[Plan, list[str]]:
    tasks = [
        task if found is None else replace(task, budget=found[0].budget)
        for task, found in zip(plan.tasks, chosen, strict=True)
    ]
    threads = next((found[0].threads for found in chosen if found is not None and found[0].threads), None)
    lines = [_line(task, found) for task, found in zip(tasks, chosen, strict=True) if _has_batches(task)]
    return replace(plan, tasks=tuple(tasks), threads=threads), lines


def _line(task: TaskPlan, found: tuple[Kept, str] | None) -> str:
    """`sentiment: batches of 2,048 tokens, measured: 1.35 times the speed of 1,024`."""
    batches = f"{task.spec.into}: batches of {budget(task):,} tokens"
    if task.spec.max_tokens is not None:
        return f"{batches}, tasks[].max_tokens"
    if found is None:
        return f"{batches}, the default"
    kept, how = found
    speeds, usual = kept.speeds, default(task)
    gain = speeds[kept.budget] / speeds[usual] if {usual, kept.budget} <= speeds.keys() else 1.0
    why = f", {gain:.2f} times the speed of {usual:,}" if kept.budget != usual else ""
    threads = f", {kept.threads} threads" if kept.threads else ""
    return f"{batches}{threads}, {'measured now' if how == 'measured' else 'measured before'}{why}"


def _of_task(
    plan: Plan, task: TaskPlan, todo: Sequence[Shard], models: ModelPool, stop: StopToken
) -> tuple[Kept, str] | None:
    kept = _read(plan, task)
    if kept is not None and kept.is_final:
        return kept, "kept"
    found = _measured(plan, task, todo, models, stop, 0.0 if kept is None else MORE * kept.allowed_s)
    if found is None:
        return None if kept is None else (kept, "kept")
    measured.keep(_file(plan, task), _FORM.dump_json(found))
    return found, "measured"


def _measured(
    plan: Plan, task: TaskPlan, todo: Sequence[Shard], models: ModelPool, stop: StopToken, least_s: float
) -> Kept | None:
    """Measure a task, if the job is long enough to allow so many seconds for it, and the machine does nothing else."""
    rows = _rows(plan, todo)
    if rows is None or rows <= ROWS or not _is_measurable(task, plan):
        return None
    sample = first_rows(plan, ROWS, TEXT_LENGTH)
    workers = _processes(plan)
    few = FEW_CHARACTERS if workers == 1 else FEW_IN_PROCESSES
    if not len(sample) or _characters(sample, task.spec.reads) * rows / len(sample) < few:
        return None
    annotator = models.annotator(task)
    stop.check()
    # Imported here because it imports torch.
    import torch

    from transforms import calibration
    from transforms.calibration.trial import Trial

    inner, batch = annotator, sample
    if isinstance(annotator, Narrowed):
        inner, batch = annotator.annotator, annotator.narrow(sample)
    if (trial := Trial.of(inner, batch)) is None:
        return None
    candidates = _candidates(task, torch.get_num_threads()) if workers == 1 else []
    allowed_s = 0.0

    def allowed(speed: float) -> float:
        nonlocal allowed_s
        work = rows / speed
        seconds = min(MOST_S, SHARE * work)
        if work < WORTH_S or seconds < least_s or cores.idle() < IDLE * threads:
            return 0.0
        allowed_s = seconds
        LOG.info("run %s: measuring how %s is computed fastest", plan.run_id, task.spec.into)
        return seconds if len(candidates) < 2 else BUDGETS_SHARE * seconds

    with calibration.using(threads := _threads(workers)):
        found = calibration.measure(trial, default(task), plan.chunk_rows, allowed)
    stop.check()
    if found is None:
        return None
    LOG.info("run %s: %.1f s for %s", plan.run_id, found.seconds, _shown(found.speeds))
    chosen = None
    if len(candidates) > 1:
        chosen = calibration.fastest_threads(trial, found.budget, candidates, allowed_s - found.seconds)
    return Kept(found.budget, found.speeds, found.complete, allowed_s, chosen)


def _candidates(task: TaskPlan, usual: int) -> list[int]:
    """Numbers of threads that may be the fastest: one a core, one a processor, and what torch starts."""
    available = cores.available()
    if _kind(task) != "cpu" or task.engine == "onnx" or available <= 2 or "OMP_NUM_THREADS" in os.environ:
        return [usual]
    return sorted({min(usual, available), cores.physical(), available})


def _threads(workers: int) -> int:
    import torch

    return max(1, min(torch.get_num_threads(), cores.available() // workers))


def _has_batches(task: TaskPlan) -> bool:
    """Whether a task computes batches of sequences; writers of text have rows in flight instead."""
    name = registry.get(task.spec.task).ARCHITECTURE
    writes = isinstance(name, str) and name.rpartition(":")[2] in WRITERS
    return task.model is not None and name is not None and not writes


def _is_measurable(task: TaskPlan, plan: Plan) -> bool:
    """Whether a task could be measured on rows of the source.

    It reads no column that another task has to compute, and no smaller model leaves it some of the rows.
    """
    computed = {other.spec.into for other in plan.tasks}
    reads = {column_of(column, computed) for column in task.spec.reads}
    return _has_batches(task) and task.spec.max_tokens is None and not task.is_cascade and not reads & computed


def _rows(plan: Plan, todo: Sequence[Shard]) -> int | None:
    """Rows to compute; None if it is not known how many of them have results already."""
    rows = [shard.about_rows if shard.rows is None else shard.rows for shard in todo]
    if plan.attempts is not None or plan.donors or any(count is None for count in rows):
        return None
    limited = zip(rows, todo, strict=True)
    return sum((count or 0) if shard.limit is None else min(count or 0, shard.limit) for count, shard in limited)


def _characters(sample: pa.RecordBatch, reads: Sequence[str]) -> int:
    """Code points of the texts that a task reads."""
    total = 0
    for name in {column_of(column, sample.schema.names) for column in reads} & set(sample.schema.names):
        column = sample.column(name)
        if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
            total += pc.sum(pc.utf8_length(column)).as_py() or 0
    return total


def _shown(speeds: dict[int, float]) -> str:
    return ", ".join(f"{budget:,}: {speed:,.0f} tokens/s" for budget, speed in speeds.items())


def _kind(task: TaskPlan) -> str:
    return task.device.split(":")[0]


def _processes(plan: Plan) -> int:
    """Processes that share the processor; one as long as the run has not chosen."""
    workers = plan.spec.runner.workers
    return workers if plan.spec.runner.is_here and isinstance(workers, int) else 1


def _read(plan: Plan, task: TaskPlan) -> Kept | None:
    """What is kept of a task's own model; None if there is nothing, or it is damaged, or the job says `max_tokens`."""
    if task.device == "auto" or task.spec.max_tokens is not None or not _has_batches(task):
        return None
    try:
        return _FORM.validate_json(_file(plan, task).read_bytes())
    except (OSError, ValidationError):
        return None


def _file(plan: Plan, task: TaskPlan) -> Path:
    about = task.large.identity | {"dtype": task.dtype, "engine": task.engine, "device_map": task.spec.device_map}
    if (processes := _processes(plan)) > 1:
        about["processes"] = processes
    if _kind(task) == "cuda":
        import torch

        about["gpu"] = torch.cuda.get_device_name(task.device)
    return measured.file("batches", about)
