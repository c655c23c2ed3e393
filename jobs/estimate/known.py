"""What a run takes over instead of computing it: whole columns of shards, results of single rows, equal texts."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.estimate.pool import Chunk, Pool
from jobs.plan import Plan
from jobs.reuse import columns, digest, donors
from jobs.reuse.rows import OlderRows
from jobs.sink import Entry
from jobs.sink.folder import FolderSink
from jobs.source import Shard
from transforms.options import with_fields

# Older rows that are looked through, at most: hashing one takes some 2 microseconds.
OLDER_ROWS = 2_000_000


@dataclass(frozen=True)
class Computed:
    """Which rows of a pool a task has to compute.

    Attributes:
        rows: whether each row is computed, `(pool,)`.
        share: how many of all rows of the shards in which the task computes anything.
    """

    rows: np.ndarray
    share: float


def columns_to_compute(plan: Plan, shard: Shard, ledger: Mapping[str, Entry]) -> list[str]:
    """The columns of a shard that its older part file does not have."""
    reused = columns.find(plan, shard, ledger.get(shard.slot))
    return [task.spec.into for task in plan.tasks if task.spec.into not in reused]


def computed(plan: Plan, sink: FolderSink, pool: Pool, ledger: Mapping[str, Entry]) -> list[Computed]:
    """For each task the rows that it has to compute.

    Args:
        plan: the run.
        sink: the sink with older part files; nothing is written to it.
        pool: rows to do.
        ledger: the entries of finished shards by slot.
    """
    wanted = [columns_to_compute(plan, chunk.shard, ledger) for chunk in pool.chunks]
    reads = donors.reads(plan)
    weights = pool.weights
    known = _known(plan, sink, pool, wanted)
    found = []
    for i, task in enumerate(plan.tasks):
        into = task.spec.into
        pairs = zip(pool.chunks, wanted, strict=True)
        inside = _joined([np.full(len(chunk.batch), into in of) for chunk, of in pairs])
        rows = inside & ~known[i]
        if task.model is not None:
            rows &= _joined([_first(chunk.batch, reads[into]) for chunk in pool.chunks])
        total = weights[inside].sum()
        share = float(weights[rows].sum() / total) if total else 0.0
        if plan.attempts is not None:
            rows, share = inside, _rejected(plan, ledger)
        found.append(Computed(rows, share))
    return found


def _rejected(plan: Plan, ledger: Mapping[str, Entry]) -> float:
    """How many of the rows of the shards to do were rejected, of a run that tries those again."""
    entries = [ledger[shard.slot] for shard in plan.shards_todo if shard.slot in ledger]
    rows = sum(entry.rows_in for entry in entries)
    return sum(entry.rows_broken for entry in entries) / rows if rows else 0.0


def _known(plan: Plan, sink: FolderSink, pool: Pool, wanted: Sequence[Sequence[str]]) -> list[np.ndarray]:
    """For each task, whether older part files have the result of each row."""
    rows = sum(len(chunk.batch) for chunk in pool.chunks)
    nothing = [np.zeros(rows, bool) for _ in plan.tasks]
    if plan.attempts is not None or not (slots := _donors(plan, sink, {chunk.shard.key for chunk in pool.chunks})):
        return nothing
    with (
        tempfile.TemporaryDirectory(prefix="nightscribe-") as folder,
        closing(OlderRows(replace(plan, donors=slots), sink, folder=Path(folder))) as older,
    ):
        each = [_of_chunk(plan, older, chunk, of) for chunk, of in zip(pool.chunks, wanted, strict=True)]
    return [_joined([masks[i] for masks in each]) for i in range(len(plan.tasks))]


def _of_chunk(plan: Plan, older: OlderRows, chunk: Chunk, wanted: Sequence[str]) -> list[np.ndarray]:
    masks = {task.spec.into: np.zeros(len(chunk.batch), bool) for task in plan.tasks}
    if len(chunk.batch) and wanted and older.can_have(wanted):
        for found in older.find(chunk.batch, wanted):
            for into in found.values:
                masks[into] |= np.asarray(found.mask)
    return list(masks.values())


def _donors(plan: Plan, sink: FolderSink, keys: set[str]) -> tuple[str, ...]:
    """The older entries that rows of the pool can be in: those of its files, and some of files that are gone."""
    if not plan.donors:
        return ()
    entries = sink.donor_entries()
    left, found = OLDER_ROWS, []
    todo = {shard.key for shard in plan.shards_todo}
    for slot in plan.donors:
        entry = entries.get(slot)
        if entry is None or (entry.key in todo and entry.key not in keys):
            continue
        if (left := left - entry.rows_out) < 0:
            break
        found.append(slot)
    return tuple(found)


def _first(batch: pa.RecordBatch, reads: Sequence[str]) -> np.ndarray:
    """Whether each row is the first of its chunk with its texts: tasks with a model compute equal texts once."""
    if not len(batch) or not reads:
        return np.ones(len(batch), bool)
    batch = with_fields(batch, [name for name in reads if name.split(".")[0] in batch.schema.names])
    hashes = digest.rows([batch.column(name) for name in reads if name in batch.schema.names])
    _, first = np.unique(hashes.view(digest.KEY)[:, 0], return_index=True)
    mask = np.zeros(len(batch), bool)
    mask[first] = True
    return mask


def _joined(masks: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, bool), *masks])
