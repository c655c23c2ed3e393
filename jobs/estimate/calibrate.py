"""A calibration: compute a sample of the rows to do on this machine, and time everything else that a run does."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.estimate import known, padding, pool, sample, writing
from jobs.estimate.pool import Pool
from jobs.estimate.rate import LengthClass, Rate, TaskRate
from jobs.estimate.sample import Cost
from jobs.models import agreement, calibration
from jobs.models.pool import ModelPool
from jobs.plan import Plan, needed
from jobs.plan.task import TaskPlan
from jobs.report.night import seconds_of
from jobs.reuse import donors
from jobs.sink import Entry
from jobs.sink.folder import FolderSink
from jobs.source import Shard
from jobs.store import Store, names
from transforms import registry
from transforms.architecture import WRITERS
from transforms.options import with_fields

# Special tokens of a text, in characters: without them short texts would seem to cost nothing.
FRAME = 8
# Rows that are tokenised and sorted together, see `transforms.batches`; a GPU's chunk has several times as many.
SORTED_ROWS = 2048
# Seconds of the end of a run, and what it takes for each shard: accounts, commit, report.
FINISH_S, COMMIT_S = 0.1, 0.002
# Requests of a shard to a sink on an object store that wait for each other.
WAITS = 3


def calibrate(plan: Plan, sink: FolderSink, ledger: Mapping[str, Entry]) -> Rate | None:
    """Compute a sample of the rows to do. Nothing is written to the sink.

    Args:
        plan: the run.
        sink: its sink.
        ledger: the entries of finished shards by slot.

    Returns:
        None if nothing is to do.

    Raises:
        SourceError: a file cannot be read, or changed since it was planned.
        ModelError: a model cannot be loaded.
    """
    if not plan.todo:
        return None
    plan, _ = calibration.known(plan)
    planned_s = seconds_of(plan.run_id, datetime.now(UTC))
    rows = pool.read(plan)
    per_guess, of_shard = _counted(plan, rows)
    begun, models = time.perf_counter(), ModelPool()
    plan = agreement.known(plan, models, sink.store)
    checked_s = time.perf_counter() - begun
    measured = _Measured(plan, rows, models)
    usual = _usual([_size(shard, per_guess, of_shard) for shard in plan.shards_todo])
    tasks = measured.tasks(known.computed(plan, sink, rows, ledger), usual * rows.selected)
    written = writing.write(plan, rows, measured.values)
    runner_s = _runner_s() if plan.spec.runner.is_here else 0.0
    return Rate(
        tasks=tasks,
        selected=rows.selected,
        unreadable=rows.unreadable,
        rows_per_guess=per_guess,
        rows_of_shard=of_shard,
        read_s=rows.read_s,
        write_s=written.row_s,
        shard_s=rows.open_s + written.shard_s + COMMIT_S + _waiting_s(sink.store),
        start_s=runner_s + measured.load_s,
        run_s=planned_s + checked_s + FINISH_S,
        row_bytes=written.row_bytes,
        shard_requests=rows.requests.shard,
        row_requests=rows.requests.row,
        memory_bytes=_peak_bytes(),
        gpu_bytes=_gpu_bytes(plan),
    )


def _counted(plan: Plan, rows: Pool) -> tuple[float, float]:
    """Rows of a file for each expected one, and rows of a shard nobody knows anything about."""
    by_slot = {shard.slot: shard for shard in plan.shards_todo}
    pairs = [(by_slot[slot].about_rows, count) for slot, count in rows.counted.items() if by_slot[slot].rows is None]
    guessed = [(guess, count) for guess, count in pairs if guess]
    ratio = sum(count for _, count in guessed) / sum(guess for guess, _ in guessed) if guessed else 1.0
    counts = list(rows.counted.values()) or [shard.rows or shard.about_rows or 0 for shard in plan.shards_todo]
    return ratio, float(np.mean(counts)) if counts else 0.0


def _size(shard: Shard, per_guess: float, of_shard: float) -> float:
    """Rows of a shard."""
    if shard.rows is not None:
        return float(shard.rows)
    return of_shard if shard.about_rows is None else shard.about_rows * per_guess


def _usual(sizes: Sequence[float]) -> float:
    """Rows of the shard that a row is usually in."""
    return sum(size * size for size in sizes) / max(1.0, sum(sizes))


class _Measured:
    """Computes rows of a pool with the tasks of a plan.

    Args:
        plan: the run.
        rows: the pool.
        models: takes the models.

    Attributes:
        load_s: seconds until all models were loaded.
        values: what each task gave for the rows of its sample.
        seen: the rows of the sample of each task.
    """

    def __init__(self, plan: Plan, rows: Pool, models: ModelPool):
        self.plan, self.models = plan, models
        self.weights = rows.weights
        self.chunk_of = np.repeat(np.arange(len(rows.chunks)), [len(chunk.batch) for chunk in rows.chunks])
        table = rows.rows.combine_chunks() if rows.chunks else plan.source.schema.empty_table()
        batches = table.to_batches()
        self.batch = batches[0] if batches else pa.RecordBatch.from_pylist([], plan.source.schema)
        self.load_s = 0.0
        self.values: dict[str, list[pa.Array]] = {task.spec.into: [] for task in plan.tasks}
        self.seen: dict[str, set[int]] = {task.spec.into: set() for task in plan.tasks}

    def tasks(self, computed: Sequence[known.Computed], shard_rows: float) -> tuple[TaskRate, ...]:
        """The rate of every task.

        Args:
            computed: the rows that each of them has to compute.
            shard_rows: rows of a shard.
        """
        busy = sum(bool(each.rows.any() and each.share) for each in computed)
        reads = donors.reads(self.plan)
        found = []
        for task, each in zip(self.plan.tasks, computed, strict=True):
            if each.rows.any() and each.share:
                sizes = self._sizes(reads[task.spec.into])
                found.append(self._rate(task, each, sizes, shard_rows, sample.SECONDS / busy))
            else:
                found.append(TaskRate(task.spec.into, (), 0))
        return tuple(found)

    def _rate(
        self, task: TaskPlan, computed: known.Computed, sizes: np.ndarray, shard_rows: float, seconds: float
    ) -> TaskRate:
        begun = time.perf_counter()
        self.models.annotator(task)
        self.load_s += time.perf_counter() - begun
        rows = np.flatnonzero(computed.rows)
        weights, sizes_of = self.weights[rows], sizes[rows]
        writes = _writes(task)
        at_once = min(self.plan.chunk_rows, self.plan.chunk_rows if writes else SORTED_ROWS)
        chunk = rows[sample.draw(weights, sizes_of, max(1, round(min(at_once, shard_rows * computed.share))))]

        def compute(indices: np.ndarray) -> Cost:
            return self._compute(task, indices, sizes)

        numbers = self.chunk_of[rows]
        chunks = [rows[numbers == number] for number in np.unique(numbers)]
        drawn = sample.Rows(sizes, self.weights, chunk, chunks, compute)
        found = sample.written_rows(drawn, seconds) if writes else sample.sorted_rows(drawn, _max_tokens(task), seconds)
        classes: list[LengthClass] = []
        below = 0.0
        for stratum in found.strata:
            last = stratum is found.strata[-1]
            inside = (sizes_of > below) & (sizes_of <= (np.inf if last else stratum.longest))
            below, cost = stratum.longest, stratum.cost
            if not inside.any() or not cost.size:
                continue
            share = weights[inside].sum() / weights.sum() * computed.share
            size = float(np.average(sizes_of[inside], weights=weights[inside]))
            one = cost.times(size / cost.size)
            longest = max(0, int(sizes_of[inside].max()) - FRAME)
            characters = max(0.0, size - FRAME)
            classes.append(LengthClass(longest, float(share), characters, one.seconds, one.tokens, one.positions))
        rate = TaskRate(task.spec.into, tuple(classes), len(self.seen[task.spec.into]))
        if found.mean is not None:
            return rate.adjusted(found.mean.seconds, found.mean.tokens, found.mean.positions)
        if writes or task.model is None or not rate.tokens:
            return rate
        # Batches of a whole chunk go across the classes: computing takes as much longer as they have more padding.
        padded = padding.positions_of_token(drawn, list(found.strata), _max_tokens(task), SORTED_ROWS)
        more = padded * rate.tokens / rate.positions
        share = rate.computed
        return rate.adjusted(rate.seconds * more / share, rate.tokens / share, rate.positions * more / share)

    def _compute(self, task: TaskPlan, indices: np.ndarray, sizes: np.ndarray) -> Cost:
        batch = self.batch.take(pa.array(indices))
        for before in needed.before(task, self.plan.tasks):
            batch = batch.append_column(before.spec.into, self.models.annotator(before)(batch).values)
        annotator = self.models.annotator(task)
        begun = time.perf_counter()
        found = annotator(batch)
        seconds = time.perf_counter() - begun
        self.values[task.spec.into].append(found.values)
        self.seen[task.spec.into].update(indices.tolist())
        return Cost(len(indices), float(sizes[indices].sum()), seconds, found.tokens, found.padded_tokens)

    def _sizes(self, reads: Sequence[str]) -> np.ndarray:
        """Characters of the texts that a task reads, and their frame; 1 for a row without any."""
        batch = with_fields(self.batch, [name for name in reads if name.split(".")[0] in self.batch.schema.names])
        characters = np.zeros(len(batch))
        for name in reads:
            if name in batch.schema.names:
                characters += _characters(batch.column(name))
        return np.where(characters > 0, characters + FRAME, 1.0)


def _characters(column: pa.Array) -> np.ndarray:
    """Characters of each value, of lists those of all items; 0 for other types."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
        return np.asarray(pc.fill_null(pc.utf8_length(column), 0), float)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        flat, parents = _characters(pc.list_flatten(column)), np.asarray(pc.list_parent_indices(column), int)
        return np.bincount(parents, weights=flat, minlength=len(column))
    return np.zeros(len(column))


def _writes(task: TaskPlan) -> bool:
    """Whether a task generates text: rows of all lengths are in flight together."""
    name = registry.get(task.spec.task).ARCHITECTURE
    return isinstance(name, str) and name.rpartition(":")[2] in WRITERS


def _max_tokens(task: TaskPlan) -> int:
    """Tokens of a batch of an encoder."""
    if task.model is None:
        return sample.IN_FLIGHT
    return calibration.budget(task)


def _runner_s() -> float:
    """Seconds of the runner on this machine, without any shard."""
    begun = time.perf_counter()
    import apache_beam
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    with apache_beam.Pipeline(FnApiRunner()) as pipeline:
        _ = pipeline | apache_beam.Create([0]) | apache_beam.Map(bool)
    return time.perf_counter() - begun


def _waiting_s(store: Store) -> float:
    """Seconds that a shard waits for the sink: none for a folder of this machine."""
    if store.local:
        return 0.0
    begun = time.perf_counter()
    store.names(names.REPORTS)
    return WAITS * (time.perf_counter() - begun)


def _peak_bytes() -> int:
    """The most memory of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # In kilobytes, on macOS in bytes.
    return peak if sys.platform == "darwin" else peak * 1024


def _gpu_bytes(plan: Plan) -> int:
    if not any(task.device.startswith("cuda") for task in plan.tasks):
        return 0
    import torch

    return int(torch.cuda.max_memory_allocated())
