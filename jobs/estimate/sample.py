"""Computing a sample of a task's rows: batches are formed as in the run, the time is that of the task alone.

The run sorts the rows of a chunk by length and cuts them into batches. So the sample is drawn from a chunk that
resembles those of the run: it has as many rows, and its lengths are those of all rows. If computing it takes too long,
rows that follow each other in the sorted chunk are computed, at several lengths: they have as little padding as in the
run, where a few rows from everywhere would be padded to the longest of them.

A task that writes text has rows of all lengths in flight at a time. It computes rows from everywhere, ever more of
them; their number says what a row costs when as many as in the run are in flight.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

# Seconds of computing that a job's sample may take, and a few more where a single row takes long.
SECONDS = 12.0
CLASSES = 8
# Characters of a token, until the sample says it.
CHARACTERS = 4.0
# Rows that a task which writes text has in flight; more do not make a row cheaper.
IN_FLIGHT = 64
# Rows of a sample of such a task: each step tells what the next one will take.
STEPS = (2, 8, 24, 64, 192, 512)
# Full chunks that are computed if they are cheap.
CHUNKS = 3


@dataclass(frozen=True)
class Cost:
    """What some rows took.

    Attributes:
        rows: how many.
        size: characters, or another measure of their lengths.
        seconds: computing time.
        tokens: real tokens.
        positions: token positions, padding included.
    """

    rows: int = 0
    size: float = 0.0
    seconds: float = 0.0
    tokens: float = 0.0
    positions: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.rows + other.rows,
            self.size + other.size,
            self.seconds + other.seconds,
            self.tokens + other.tokens,
            self.positions + other.positions,
        )

    def times(self, factor: float) -> Cost:
        """With seconds, tokens and positions multiplied."""
        return Cost(self.rows, self.size, self.seconds * factor, self.tokens * factor, self.positions * factor)

    def a_row(self) -> Cost:
        """The mean row."""
        return replace(self.times(1 / self.rows), rows=1, size=self.size / self.rows)


# Rows by their number in the pool -> what computing them takes.
Compute = Callable[[np.ndarray], Cost]


@dataclass(frozen=True)
class Stratum:
    """A class of lengths.

    Attributes:
        longest: the largest size in it.
        cost: of the rows in it that were computed; None if there was no time for any.
    """

    longest: float
    cost: Cost


@dataclass(frozen=True)
class Sampled:
    """What a sample says.

    Attributes:
        strata: classes of lengths, shortest first.
        mean: what the mean row takes, if there was the time to compute whole chunks; else the classes say it.
    """

    strata: Sequence[Stratum]
    mean: Cost | None


def draw(weights: np.ndarray, sizes: np.ndarray, rows: int) -> np.ndarray:
    """Rows that lie evenly over the lengths, shortest first.

    Args:
        weights: of each row, `(pool,)`.
        sizes: of each row, `(pool,)`.
        rows: how many; fewer if the pool has fewer, or if a few rows stand for many.
    """
    order = np.argsort(sizes, kind="stable")
    if len(order) <= rows:
        return order
    ends = np.cumsum(weights[order])
    places = (np.arange(rows) + 0.5) / rows * ends[-1]
    return order[np.unique(np.minimum(np.searchsorted(ends, places, "right"), len(order) - 1))]


@dataclass(frozen=True)
class Rows:
    """The rows of a pool that a task has to compute.

    Attributes:
        sizes: the length of every row of the pool, at least 1; 1 for a row without text.
        weights: of every row of the pool, with the sum 1.
        chunk: rows as of one chunk of the run, shortest first.
        chunks: the rows of each chunk of the pool.
        compute: computes some rows.
    """

    sizes: np.ndarray
    weights: np.ndarray
    chunk: np.ndarray
    chunks: Sequence[np.ndarray]
    compute: Compute


def sorted_rows(rows: Rows, max_tokens: int, seconds: float) -> Sampled:
    """The cost of rows by length, of a task that sorts them.

    Args:
        rows: the rows.
        max_tokens: tokens of a batch.
        seconds: how long it may take.

    Returns:
        Classes of about equal cost.
    """
    until = time.monotonic() + seconds
    sizes, compute = rows.sizes, rows.compute
    classes = [each for each in np.split(rows.chunk, _bounds(sizes[rows.chunk])) if len(each)]
    costs = [Cost() for _ in classes]
    batch = max_tokens * CHARACTERS
    # The first computation does things that later ones need not do.
    warm = compute(_run(classes[len(classes) // 2], sizes, batch, 0))
    if warm.tokens:
        batch = max_tokens * warm.size / warm.tokens
    each_s = warm.seconds / warm.size * batch
    if each_s * len(classes) > seconds:
        batch *= seconds / (each_s * len(classes))
    look = 0
    while True:
        for i, members in enumerate(classes):
            if costs[i].rows < len(members) and (not look or time.monotonic() < until):
                costs[i] += compute(_run(members, sizes, batch, look))
        left = any(cost.rows < len(members) for members, cost in zip(classes, costs, strict=True))
        whole = sum((_of_all(sizes[members], cost) for members, cost in zip(classes, costs, strict=True)), Cost())
        if not left or time.monotonic() + whole.seconds < until or time.monotonic() >= until:
            break
        look += 1
    found = [Stratum(float(sizes[members].max()), cost) for members, cost in zip(classes, costs, strict=True)]
    return Sampled(found, _mean(rows, whole.seconds / whole.rows, until))


def written_rows(rows: Rows, seconds: float) -> Sampled:
    """The cost of rows of a task that writes text: one class, because rows of all lengths are in flight together.

    Args:
        rows: the rows.
        seconds: how long it may take.
    """
    until = time.monotonic() + seconds
    chunk, compute = rows.chunk, rows.compute
    compute(_evenly(chunk, 1))
    looks: list[Cost] = []
    for number in STEPS:
        number = min(number, len(chunk))
        if looks and time.monotonic() + looks[-1].seconds / looks[-1].rows * number > until:
            break
        looks.append(compute(_evenly(chunk, number)))
        if number == len(chunk):
            break
    last = looks[-1]
    cost = Cost(last.rows, last.size, _in_flight(looks, len(chunk)) * last.rows, last.tokens, last.positions)
    mean = _mean(rows, cost.seconds / cost.rows, until)
    return Sampled([Stratum(float(rows.sizes[chunk].max()), cost)], mean)


def _mean(rows: Rows, guess_s: float, until: float) -> Cost | None:
    """What a mean row takes, computed on all chunks of the pool, or on a chunk like those of the run.

    Args:
        rows: the rows.
        guess_s: about how many seconds a row takes.
        until: when it has to be done.

    Returns:
        None if there is not the time for either.
    """
    if time.monotonic() + guess_s * sum(map(len, rows.chunks)) < until:
        weights = [float(rows.weights[chunk].sum()) for chunk in rows.chunks]
        found = [rows.compute(chunk).a_row() for chunk in rows.chunks]
        shares = [weight / sum(weights) for weight in weights]
        return sum((each.times(share) for each, share in zip(found, shares, strict=True)), Cost())
    if time.monotonic() + guess_s * len(rows.chunk) > until:
        return None
    total = Cost()
    for _ in range(CHUNKS):
        total += rows.compute(rows.chunk)
        if time.monotonic() + guess_s * len(rows.chunk) > until:
            break
    return total.a_row()


def _in_flight(looks: Sequence[Cost], rows: int) -> float:
    """Seconds of a row of a chunk, from samples of growing size: more rows in flight make a row cheaper."""
    last = looks[-1]
    if last.rows >= rows or len(looks) == 1:
        return last.seconds / last.rows
    before = looks[-2]
    slope = max(0.0, (last.seconds - before.seconds) / (last.rows - before.rows))
    if last.rows < IN_FLIGHT:
        full = min(IN_FLIGHT, rows)
        return (last.seconds + slope * (full - last.rows)) / full
    return (last.seconds + slope * (rows - last.rows)) / rows


def _bounds(sizes: np.ndarray) -> np.ndarray:
    """Where to divide sorted sizes so that each class has about the same sum; rows without text are a class."""
    empty = int(np.searchsorted(sizes, 1, "right"))
    ends = np.cumsum(sizes[empty:])
    if not len(ends):
        return np.array([empty])
    cuts = np.searchsorted(ends, np.arange(1, CLASSES) / CLASSES * ends[-1], "right")
    return np.unique(np.concatenate([[empty], empty + cuts]))


def _run(rows: np.ndarray, sizes: np.ndarray, batch: float, look: int) -> np.ndarray:
    """Rows that follow each other and fill about one batch; each look begins somewhere else."""
    number = max(1, int(batch // max(1.0, float(sizes[rows].mean()))))
    if number >= len(rows):
        return rows
    # In the middle first, then in the middle of what is left on either side, and so on.
    turn = look + 1
    place = (turn - (1 << (turn.bit_length() - 1)) + 0.5) / (1 << (turn.bit_length() - 1))
    start = int(place * (len(rows) - number))
    return rows[start : start + number]


def _evenly(chunk: np.ndarray, rows: int) -> np.ndarray:
    return chunk[((np.arange(rows) + 0.5) / rows * len(chunk)).astype(int)]


def _of_all(sizes: np.ndarray, cost: Cost) -> Cost:
    """What all rows of a class take, if those that were computed took `cost`."""
    factor = float(sizes.sum()) / max(1.0, cost.size)
    return Cost(len(sizes), float(sizes.sum()), cost.seconds * factor, cost.tokens * factor, cost.positions * factor)
