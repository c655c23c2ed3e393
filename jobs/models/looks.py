"""A task in int8 beside float32: as many rows as a clear answer needs, the model loaded once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa

from jobs.models import pool
from jobs.plan.task import TaskPlan
from transforms import registry
from transforms.agreement import agreement
from transforms.architecture import WRITERS, resolve
from transforms.contract import Annotator

if TYPE_CHECKING:
    from transforms.rounding import Rounding

# Rows that have been compared after each look; the next look is taken while the answer is not clear. If all of n rows
# agree, the agreement is, with 95 % confidence, above 0.05 ** (1 / n): 16 rows 0.829, 32 rows 0.911, 64 rows 0.954, 128
# rows 0.977. All of 32 rows agree in 3 % of the jobs whose agreement is 0.9, and in 19 % of those where it is 0.95.
ROWS = (32, 64, 128)
# The least of a task that computes several sequences per row, such as the labels of zero_shot; and the least that are
# worth keeping.
LEAST_ROWS = 16
# Sequences that ranges are taken from, and rows of both.
RANGE_SEQUENCES = 16
MOST_ROWS = ROWS[-1] + RANGE_SEQUENCES
# Assumed labels of a row, where a column has them; and what a written text costs.
LABELS, WRITING = 4, 2
# Rows by which ranges per batch must be better than fixed ones to be worth their time.
NOISE_ROWS = 2


class Looks(Protocol):
    """Rows to compare on."""

    def __len__(self) -> int: ...

    def between(self, start: int, stop: int) -> pa.RecordBatch:
        """The rows from `start` until `stop`."""
        ...


@dataclass(frozen=True)
class Compared:
    """A task in int8 as it is to be used.

    Attributes:
        agreement: mean agreement with float32, from 0 to 1.
        rows: rows compared, those without a value not counted.
        ranges: ranges of the inputs of the linear layers; None for a range per batch.
        annotator: the task in int8, loaded.
    """

    agreement: float
    rows: int
    ranges: Mapping[str, tuple[float, float]] | None
    annotator: Annotator


def compare(task: TaskPlan, sample: Looks, may_fix: bool = True) -> Compared:
    """Compare a task in int8 with float32, and decide between fixed ranges and a range per batch.

    The ranges are taken from rows that are not compared, so that values outside of them count. A range per batch is
    tried only if fixed ranges give no clear answer; it is used if it is better by more than noise, if only it
    reaches `min_agreement`, or if there are too few rows to take ranges from.

    Args:
        task: its dtype is int8.
        sample: rows of the job.
        may_fix: whether fixed ranges are tried.
    """
    rounding = pool.rounding(task)
    in_float32 = pool.on(task, rounding.exact)
    seen = _observe(task, sample, rounding, in_float32) if may_fix else 0
    rounded = pool.on(task, rounding.rounded(rounding.ranges if seen else None))
    batches: list[pa.RecordBatch] = []
    exact: list[pa.Array] = []
    got: list[pa.Array] = []
    agreed = 0.0
    for start, stop in _looks(task, seen, len(sample)):
        batches.append(sample.between(start, stop))
        with rounding.in_float32():
            exact.append(in_float32(batches[-1]).values)
        got.append(rounded(batches[-1]).values)
        agreed = _agreement(exact, got)
        if _is_clear(agreed, task):
            break
    rows = sum(len(values) - values.null_count for values in exact)
    if not seen or _is_clear(agreed, task):
        return Compared(agreed, rows, rounding.ranges if seen else None, rounded)
    dynamic = pool.on(task, rounding.rounded(None))
    by_batch = _agreement(exact, [dynamic(batch).values for batch in batches])
    if agreed < by_batch - NOISE_ROWS / max(1, rows) or agreed < task.spec.min_agreement <= by_batch:
        return Compared(by_batch, rows, None, dynamic)
    # Anew, because a network that is reset before every batch would be reset to these ranges.
    return Compared(agreed, rows, rounding.ranges, pool.on(task, rounding.rounded(rounding.ranges)))


def _observe(task: TaskPlan, sample: Looks, rounding: Rounding, in_float32: Annotator) -> int:
    """Take ranges from the first rows; how many rows that took, or 0 if fewer have values than ranges need."""
    wanted = max(1, RANGE_SEQUENCES // _cost(task))
    seen = found = 0
    # The other half is to be compared.
    while found < wanted and seen + wanted <= len(sample) // 2:
        with rounding.observed():
            values = in_float32(sample.between(seen, seen + wanted)).values
        seen, found = seen + wanted, found + len(values) - values.null_count
    return seen if found >= wanted else 0


def _looks(task: TaskPlan, first: int, rows: int) -> list[tuple[int, int]]:
    """Where each look starts and stops, from the row `first`; one of no rows if there are none."""
    cost = _cost(task)
    stops = sorted({min(rows, first + max(LEAST_ROWS, count // cost)) for count in ROWS})
    return list(zip([first, *stops], stops, strict=False))


def _cost(task: TaskPlan) -> int:
    """What a row of a task takes, in rows of a task that computes a row's text once."""
    if task.spec.task == "zero_shot":
        # A sequence for each label.
        return len(task.spec.options.labels or ()) or LABELS
    return WRITING if resolve(registry.get(task.spec.task).ARCHITECTURE or "").__name__ in WRITERS else 1


def _agreement(exact: list[pa.Array], rounded: list[pa.Array]) -> float:
    return agreement(pa.concat_arrays(exact), pa.concat_arrays(rounded))


def _is_clear(agreed: float, task: TaskPlan) -> bool:
    """Whether an agreement is nearer to 1 than to the required minimum."""
    return agreed >= (1 + task.spec.min_agreement) / 2
