"""The rows that a run computes for a task: those with something to annotate whose result no older part file has.

Only they say what a smaller model would save, and comparing others would cost more than the run itself: a file of which
one row in a hundred changed is to do as a whole, and one row in a hundred of it is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs.execute.stop import NEVER, StopToken
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.reuse import columns
from jobs.reuse.rows import OlderRows
from jobs.sink.folder import FolderSink
from transforms.options import column_of, with_fields


@dataclass(frozen=True)
class Pending:
    """The rows that a run computes for a task.

    Attributes:
        plan: the run; to do are the shards of which the task's column is not taken over as a whole.
        task: the task.
        older: results of rows that older part files have; None if they have none for this task.
    """

    plan: Plan
    task: TaskPlan
    older: OlderRows | None = None

    @property
    def most(self) -> int | None:
        """Rows that it is at most; None if nobody knows before reading."""
        return self.plan.rows_todo

    @property
    def about_most(self) -> int | None:
        """As `most`, or an estimate; rows that `where` leaves out are counted."""
        if self.plan.spec.source.prepare is not None:
            return None
        total = 0
        for shard in self.plan.shards_todo:
            rows = shard.about_rows if shard.rows is None else shard.rows
            if (rows := rows if shard.limit is None else shard.limit) is None:
                return None
            total += rows
        return total

    def mask(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Whether each row is one of them.

        Args:
            batch: columns of the source. A column that another task adds counts as having something to annotate.
        """
        found = np.ones(len(batch), bool)
        reads = list(dict.fromkeys(self.task.spec.reads))
        names = batch.schema.names
        if len(batch) and reads and all(column_of(column, names) in names for column in reads):
            own = with_fields(batch, reads)
            found = np.logical_or.reduce([_is_given(own.column(column)) for column in reads])
        if len(batch) and self.older is not None:
            into = self.task.spec.into
            for known in self.older.find(batch, [into]):
                if into in known.values:
                    found &= ~np.asarray(known.mask)
        return found


@contextmanager
def pending(plan: Plan, task: TaskPlan, sink: FolderSink, stop: StopToken = NEVER) -> Iterator[Pending]:
    """The rows that a run computes for one of its tasks; part files are open as long as the block runs.

    Args:
        plan: the run, compared with the ledger of the sink.
        task: the task.
        sink: has the part files.
        stop: checked while older rows are indexed.
    """
    into, ledger = task.spec.into, sink.entries(plan)
    shards = [shard for shard in plan.shards_todo if into not in columns.find(plan, shard, ledger.get(shard.slot))]
    own = replace(plan, todo={shard.slot: plan.todo[shard.slot] for shard in shards})
    with closing(OlderRows(plan, sink, stop)) as older:
        yield Pending(own, task, older if older.can_have([into]) else None)


def _is_given(column: pa.Array) -> NDArray[np.bool_]:
    """Whether each row has a value, which an empty text is not."""
    given = column.is_valid()
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        given = pc.and_(given, pc.fill_null(pc.not_equal(column, ""), False))
    return np.asarray(given)
