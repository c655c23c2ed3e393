"""The rows that a sample is drawn from: whole chunks of shards that lie evenly over the rows to do."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from jobs import source
from jobs.estimate.requests import Reading
from jobs.plan import Plan
from jobs.source import BadRow, Shard
from jobs.store import requests

# Rows of the pool, about: their lengths say how the cost is distributed, so it is much larger than the sample.
ROWS = 16_384
# Chunks of it; more of them if the shards have fewer rows than a chunk.
LEAST_CHUNKS, MOST_CHUNKS = 16, 64
# Reading ends with the chunk during which this time is over.
SECONDS = 6.0


@dataclass(frozen=True)
class Chunk:
    """Rows of a shard that follow each other.

    Attributes:
        shard: where they are.
        batch: the rows as tasks get them, after `where` and `prepare`.
        rows: rows of the file that they were selected from, unreadable ones included.
        unreadable: how many of those could not be read.
        weight: its share of the rows to do, compared with the other chunks.
    """

    shard: Shard
    batch: pa.RecordBatch
    rows: int
    unreadable: int
    weight: float


@dataclass(frozen=True)
class Pool:
    """Chunks of a source, and what reading them took.

    Attributes:
        chunks: the chunks; none if there are no rows.
        read_s: seconds for each row read, `where` and `prepare` included.
        open_s: seconds until the first row of a shard.
        counted: rows of the shards that were read to their end, by slot.
        requests: to object stores.
    """

    chunks: Sequence[Chunk]
    read_s: float
    open_s: float
    counted: Mapping[str, int]
    requests: Reading = field(default_factory=Reading)

    @property
    def selected(self) -> float:
        """Rows that tasks get for each row read."""
        read = sum(chunk.weight for chunk in self.chunks)
        kept = sum(chunk.weight * len(chunk.batch) / chunk.rows for chunk in self.chunks if chunk.rows)
        return kept / read if read else 0.0

    @property
    def unreadable(self) -> float:
        """Unreadable rows for each row read."""
        read = sum(chunk.weight for chunk in self.chunks)
        bad = sum(chunk.weight * chunk.unreadable / chunk.rows for chunk in self.chunks if chunk.rows)
        return bad / read if read else 0.0

    @property
    def rows(self) -> pa.Table:
        """The rows of all chunks."""
        return pa.Table.from_batches([chunk.batch for chunk in self.chunks])

    @property
    def weights(self) -> np.ndarray:
        """For each row, which share of all rows it stands for, `(rows,)`, with the sum 1."""
        each = [np.full(len(chunk.batch), chunk.weight / max(1, chunk.rows)) for chunk in self.chunks]
        weights = np.concatenate(each) if each else np.zeros(0)
        return weights / weights.sum() if len(weights) else weights


def read(plan: Plan) -> Pool:
    """Read the pool of a plan's shards to do. Each chunk has the rows that the run would compute together.

    Raises:
        SourceError: a file cannot be read, or changed since it was planned.
    """
    chunks: list[Chunk] = []
    counted: dict[str, int] = {}
    rows_read = first_rows = opened = first_requests = more_requests = 0
    seconds = opening = 0.0
    until = time.monotonic() + SECONDS
    for shard, places in _spread(plan):
        started = time.perf_counter()
        requests.taken()
        left, last, at = places, Chunk(shard, _no_rows(plan), 0, 0, 0.0), 0
        for chunk in _walk(plan, shard):
            if not at:
                opening, opened = opening + time.perf_counter() - started, opened + 1
                first_rows, first_requests = first_rows + chunk.rows, first_requests + requests.taken().requests
            last, at = chunk, at + chunk.rows
            if left is None:
                chunks.append(replace(chunk, weight=chunk.rows))
            elif hit := sum(place < at for place in left):
                chunks.append(replace(chunk, weight=hit))
                left = left[hit:]
            # A file whose rows nobody has counted is read on, because its rows say how many a byte of the others has.
            if left == [] and (shard.rows is not None or time.monotonic() > until):
                break
        else:
            counted[shard.slot] = at
            if left:
                # The estimate of its rows was too high.
                chunks.append(replace(last, weight=len(left)))
        more_requests += requests.taken().requests
        rows_read, seconds = rows_read + at, seconds + time.perf_counter() - started
        if time.monotonic() > until:
            break
    asked = Reading(first_requests / max(1, opened), more_requests / max(1, rows_read - first_rows))
    return Pool(chunks, seconds / max(1, rows_read), opening / max(1, opened), counted, asked)


def _walk(plan: Plan, shard: Shard) -> Iterator[Chunk]:
    """The chunks of a shard in order, with the rows of the file that each was selected from."""
    filtered = plan.spec.source.where is not None or plan.spec.source.prepare is not None
    seen = told = bad = 0

    def count(rows: int) -> None:
        nonlocal seen
        seen += rows

    for item in source.read(plan.source, shard, plan.chunk_rows, count):
        if isinstance(item, BadRow):
            bad += 1
            continue
        rows = max(len(item), seen - told) if filtered else len(item)
        yield Chunk(shard, item, rows + bad, bad, 0.0)
        told, bad = told + rows, 0
    if (rest := seen - told if filtered else 0) > 0 or bad:
        yield Chunk(shard, _no_rows(plan), max(0, rest) + bad, bad, 0.0)


def _no_rows(plan: Plan) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([], plan.source.schema)


def _spread(plan: Plan) -> Iterator[tuple[Shard, list[int] | None]]:
    """Shards to read, and the places of the rows in them whose chunks are taken, ascending; None for all of them.

    The places lie at even distances over the rows to do, so each of them stands for as many rows. The shards come in an
    order in which they are evenly spread at any time, because reading may have to end early.
    """
    shards = plan.shards_todo
    if not shards:
        return
    known = [size for shard in shards if (size := _size(shard))]
    usual = sum(known) / len(known) if known else float(plan.chunk_rows)
    sizes = np.array([usual if (size := _size(shard)) is None else size for shard in shards], float)
    places: dict[int, list[int]] = {}
    if sizes.sum() <= ROWS and len(shards) <= MOST_CHUNKS:
        for i in _in_turn(list(range(len(shards)))):
            yield shards[i], None
        return
    number = min(MOST_CHUNKS, max(LEAST_CHUNKS, round(ROWS / max(1.0, min(usual, plan.chunk_rows)))))
    ends = np.cumsum(sizes)
    for place in (np.arange(number) + 0.5) / number * ends[-1]:
        i = min(int(np.searchsorted(ends, place, "right")), len(shards) - 1)
        # From far away the rows before a place are not fetched only to be skipped.
        offset = 0.0 if "://" in shards[i].file else place - (ends[i] - sizes[i])
        places.setdefault(i, []).append(int(offset))
    for i in _in_turn(sorted(places)):
        yield shards[i], places[i]


def _in_turn(indices: list[int]) -> list[int]:
    """Bit-reversed order: any first part of it lies evenly over the whole."""
    bits = max(1, (len(indices) - 1).bit_length())
    order = sorted(range(len(indices)), key=lambda i: int(f"{i:0{bits}b}"[::-1], 2))
    return [indices[i] for i in order]


def _size(shard: Shard) -> int | None:
    """Rows before any filter, or an estimate; None if nobody knows."""
    rows = shard.about_rows if shard.rows is None else shard.rows
    return rows if shard.limit is None or rows is None else min(rows, shard.limit)
