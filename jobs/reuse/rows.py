"""Results of rows that older part files have: found by the values of the columns that the tasks read.

A row has the result of another one if the hash of the task is the same (model, adapter, options, code, and the tasks
that it reads from) and the columns that it reads have the same values. Which file either row is in does not matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.execute.stop import NEVER, StopToken
from jobs.plan import Plan
from jobs.reuse import digest, donors, index
from jobs.reuse.donors import Group
from jobs.reuse.index import Index
from jobs.reuse.parts import Parts
from jobs.sink import Sink
from transforms.options import with_fields

# Rows that are looked up together, at least. Those that are not found are computed together: of 32,768 rows with one
# changed in a hundred these are 328, enough to be sorted by length.
WINDOW_ROWS = 32_768


@dataclass(frozen=True)
class Known:
    """Results of some rows of a batch.

    Attributes:
        mask: whether the results of each row are known.
        values: column of a task -> its value for each row; null where it is not known.
    """

    mask: pa.BooleanArray
    values: Mapping[str, pa.Array]

    def slice(self, start: int, rows: int) -> Known:
        """Those of some rows that follow each other."""
        return Known(self.mask.slice(start, rows), {k: v.slice(start, rows) for k, v in self.values.items()})

    def filter(self, mask: pa.BooleanArray) -> Known:
        """Those of the rows where the mask is true."""
        return Known(self.mask.filter(mask), {k: v.filter(mask) for k, v in self.values.items()})


class OlderRows:
    """The rows that a run may take results from.

    One object serves all shards of a process; nothing is read before the first shard that needs it.

    Args:
        plan: the run; its `donors` are the entries to take rows from.
        sink: where the part files are.
        stop: checked while the index is built.
        folder: where the index is kept; by default where the processes of the run on this machine share it.
    """

    def __init__(self, plan: Plan, sink: Sink, stop: StopToken = NEVER, folder: Path | None = None):
        self.plan, self.sink, self.stop, self.folder = plan, sink, stop, folder
        self.indexes: dict[Group, Index] = {}

    def can_have(self, tasks: Collection[str]) -> bool:
        """Whether results of some of these tasks can be found."""
        return any(not set(tasks).isdisjoint(group.tasks) for group in self._groups)

    def find(self, batch: pa.RecordBatch, tasks: Collection[str]) -> tuple[Known, ...]:
        """The results of tasks for the rows of a batch, as far as they are known.

        Args:
            batch: columns of the source.
            tasks: the columns of the tasks.
        """
        return tuple(self._of(group, batch) for group in self._groups if not set(tasks).isdisjoint(group.tasks))

    def close(self) -> None:
        """Close the part files."""
        if self.plan.donors:
            self._parts.close()

    def _of(self, group: Group, batch: pa.RecordBatch) -> Known:
        batch = with_fields(batch, group.reads)
        known, places = self._index(group).find(digest.rows([batch.column(column) for column in group.reads]))
        there = self._parts.are_there(places)
        known[known] = there
        values = self._parts.take(group, places[there])
        # Null where the result is not known.
        at = pa.array(np.cumsum(known) - 1, mask=~known)
        return Known(pa.array(known), {into: found.take(at) for into, found in values.items()})

    def _index(self, group: Group) -> Index:
        if group not in self.indexes:
            name = hashlib.blake2b(repr(group).encode(), digest_size=8).hexdigest()
            rows = sum(self._parts.pieces[n][1].rows for slot in group.donors for n in self._parts.numbers[slot])
            folder = self.folder or self.sink.store.scratch(self.plan.run_id)
            self.indexes[group] = index.opened(folder, name, rows, self._parts.hashes(group))
        return self.indexes[group]

    @cached_property
    def _parts(self) -> Parts:
        # An entry that is gone was removed by hand; its rows are computed.
        published = self.sink.donor_entries() if self.plan.donors else {}
        entries = [published[slot] for slot in self.plan.donors if slot in published]
        return Parts(self.plan, self.sink, entries, self.stop)

    @cached_property
    def _groups(self) -> list[Group]:
        return donors.groups(self.plan, self._parts.entries)
