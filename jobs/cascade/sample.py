"""Rows drawn at random from all rows that a run has to compute for a task, each with the same probability.

A test of agreement needs rows that are independent of each other, which neighbours are not, so single rows are drawn
and not pieces of files. If the files say how many rows they have, only those with drawn rows are read; otherwise, and
if many of the rows need not be computed, every row to do is read once. Computing takes the time of a run, so reading
costs little of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs import source
from jobs.cascade.pending import Pending
from jobs.execute.stop import NEVER, StopToken
from jobs.plan import Plan
from jobs.reuse.rows import WINDOW_ROWS
from jobs.source import Shard

# If fewer of the drawn rows have to be computed, every row is read to find as many as were wanted.
LEAST_SHARE = 0.5


@dataclass(frozen=True)
class Drawn:
    """Rows in random order.

    Attributes:
        rows: columns of the source; any first rows of them are a sample too.
        total: rows that they were drawn from; an estimate if not every row was looked at.
    """

    rows: pa.Table
    total: int


def draw(pending: Pending, rows: int, seed: int, stop: StopToken = NEVER) -> Drawn:
    """Draw rows without replacement.

    Args:
        pending: the rows to draw from.
        rows: how many; there can be fewer.
        seed: of the draw: the same plan gives the same rows.
        stop: checked while files are read.

    Raises:
        SourceError: a file cannot be read, or changed since it was planned.
        Stopped: the run was asked to stop.
    """
    if pending.most is not None and pending.older is None:
        drawn = _of_known(pending, pending.most, rows, np.random.default_rng(seed), stop)
        if len(drawn.rows) >= LEAST_SHARE * min(rows, pending.most):
            return drawn
    return _of_all(pending, rows, np.random.default_rng(seed), stop)


def _of_known(pending: Pending, total: int, rows: int, rng: np.random.Generator, stop: StopToken) -> Drawn:
    """Rows at random places; those at the place of a row that cannot be read, or need not be computed, are missing."""
    places = np.sort(rng.choice(total, size=min(rows, total), replace=False))
    pieces: list[pa.RecordBatch] = []
    first = 0
    for shard in pending.plan.shards_todo:
        held = shard.rows if shard.limit is None else shard.limit
        assert held is not None
        own = places[(places >= first) & (places < first + held)] - first
        first += held
        if len(own):
            pieces += _at(pending.plan, shard, own, stop)
    read = sum(map(len, pieces))
    pieces = [piece.filter(pa.array(pending.mask(piece))) for piece in pieces]
    table = pa.Table.from_batches(pieces, pending.plan.source.schema)
    return Drawn(table.take(pa.array(rng.permutation(len(table)))), round(total * len(table) / max(1, read)))


def _at(plan: Plan, shard: Shard, places: np.ndarray, stop: StopToken) -> Iterator[pa.RecordBatch]:
    """The rows of a shard at some places, ascending."""
    start = 0
    for batch in _batches(plan, shard, plan.chunk_rows, stop):
        inside = places[(places >= start) & (places < start + len(batch))] - start
        if len(inside):
            yield batch.take(pa.array(inside))
        start += len(batch)
        if start > places[-1]:
            return


def _of_all(pending: Pending, rows: int, rng: np.random.Generator, stop: StopToken) -> Drawn:
    """The rows with the smallest of random numbers, one for each row that is read and has to be computed."""
    plan = pending.plan
    kept, keys = plan.source.schema.empty_table(), np.zeros(0)
    total = 0
    # As many as a run looks up together.
    window = plan.chunk_rows if pending.older is None else max(WINDOW_ROWS, plan.chunk_rows)
    for shard in plan.shards_todo:
        for batch in _batches(plan, shard, window, stop):
            batch = batch.filter(pa.array(pending.mask(batch)))
            total += len(batch)
            own = rng.random(len(batch))
            limit = keys.max() if len(keys) == rows else 1.0
            chosen = np.flatnonzero(own < limit)
            if not len(chosen):
                continue
            keys = np.concatenate([keys, own[chosen]])
            kept = pa.concat_tables([kept, pa.Table.from_batches([batch.take(pa.array(chosen))])])
            if len(keys) > rows:
                least = np.argpartition(keys, rows)[:rows]
                keys, kept = keys[least], kept.take(pa.array(least))
    return Drawn(kept.take(pa.array(np.argsort(keys))), total)


def _batches(plan: Plan, shard: Shard, rows: int, stop: StopToken) -> Iterator[pa.RecordBatch]:
    for item in source.read(plan.source, shard, rows):
        stop.check()
        if isinstance(item, pa.RecordBatch):
            yield item
