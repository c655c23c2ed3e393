"""Rows drawn at random from all rows that a run has to do, each with the same probability.

A test of agreement needs rows that are independent of each other, which neighbours are not, so single rows are drawn
and not pieces of files. If the files say how many rows they have, only those with drawn rows are read; otherwise every
row to do is read once. Computing takes the time of a run, so reading costs little of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs import source
from jobs.execute.stop import NEVER, StopToken
from jobs.plan import Plan
from jobs.source import Shard


@dataclass(frozen=True)
class Drawn:
    """Rows in random order.

    Attributes:
        rows: columns of the source; any first rows of them are a sample too.
        total: rows that they were drawn from.
    """

    rows: pa.Table
    total: int


def draw(plan: Plan, rows: int, seed: int, stop: StopToken = NEVER) -> Drawn:
    """Draw rows without replacement.

    Args:
        plan: the run.
        rows: how many; fewer if there are not as many.
        seed: of the draw: the same plan gives the same rows.
        stop: checked while files are read.

    Raises:
        SourceError: a file cannot be read, or changed since it was planned.
        Stopped: the run was asked to stop.
    """
    rng = np.random.default_rng(seed)
    if plan.rows_todo is None:
        return _of_unknown(plan, rows, rng, stop)
    return _of_known(plan, plan.rows_todo, rows, rng, stop)


def _of_known(plan: Plan, total: int, rows: int, rng: np.random.Generator, stop: StopToken) -> Drawn:
    """Rows at random places; those at the place of a row that cannot be read are missing."""
    places = np.sort(rng.choice(total, size=min(rows, total), replace=False))
    pieces: list[pa.RecordBatch] = []
    first = 0
    for shard in plan.shards_todo:
        held = shard.rows if shard.limit is None else shard.limit
        assert held is not None
        own = places[(places >= first) & (places < first + held)] - first
        first += held
        if len(own):
            pieces += _at(plan, shard, own, stop)
    return Drawn(_shuffled(plan, pieces, rng), total)


def _at(plan: Plan, shard: Shard, places: np.ndarray, stop: StopToken) -> Iterator[pa.RecordBatch]:
    """The rows of a shard at some places, ascending."""
    start = 0
    for batch in _batches(plan, shard, stop):
        inside = places[(places >= start) & (places < start + len(batch))] - start
        if len(inside):
            yield batch.take(pa.array(inside))
        start += len(batch)
        if start > places[-1]:
            return


def _of_unknown(plan: Plan, rows: int, rng: np.random.Generator, stop: StopToken) -> Drawn:
    """The rows with the smallest of random numbers, one for each row that is read."""
    kept, keys = plan.source.schema.empty_table(), np.zeros(0)
    total = 0
    for shard in plan.shards_todo:
        for batch in _batches(plan, shard, stop):
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


def _batches(plan: Plan, shard: Shard, stop: StopToken) -> Iterator[pa.RecordBatch]:
    for item in source.read(plan.source, shard, plan.chunk_rows):
        stop.check()
        if isinstance(item, pa.RecordBatch):
            yield item


def _shuffled(plan: Plan, pieces: list[pa.RecordBatch], rng: np.random.Generator) -> pa.Table:
    table = pa.Table.from_batches(pieces, plan.source.schema)
    return table.take(pa.array(rng.permutation(len(table))))
