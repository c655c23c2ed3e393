"""A sample of a source: the first rows of shards that lie evenly over it, so that not all come from one file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from jobs.source import Source, read
from jobs.source.shard import BadRow, Shard

# Shards that are read in turn; each is an open file.
SPREAD = 20


@dataclass(frozen=True)
class Sample:
    """Some rows of a source.

    Attributes:
        rows: the rows as tasks get them, after `where` and `prepare`.
        unreadable: rows that could not be read on the way.
    """

    rows: pa.Table
    unreadable: int


def sample(source: Source, shards: Sequence[Shard], rows: int) -> Sample:
    """Read rows from up to 20 shards in turn, from further shards only if those have too few.

    Args:
        source: the source, planned.
        shards: its shards.
        rows: number of rows; fewer are returned if the source has fewer.

    Raises:
        SourceError: a file cannot be read, or changed since it was planned.
    """
    batches: list[pa.RecordBatch] = []
    unreadable = 0
    left = rows
    for item in _in_turn(source, shards, rows):
        if isinstance(item, BadRow):
            unreadable += 1
            continue
        batches.append(item.slice(0, left))
        left -= len(batches[-1])
        if not left:
            break
    return Sample(pa.Table.from_batches(batches, source.schema), unreadable)


def _in_turn(source: Source, shards: Sequence[Shard], rows: int) -> Iterator[pa.RecordBatch | BadRow]:
    """A batch of each shard of a group in turn until all are read, then those of the next group."""
    share = math.ceil(rows / max(1, min(SPREAD, len(shards))))
    groups = math.ceil(len(shards) / SPREAD)
    for first in range(groups):
        readers = [read(source, shard, share) for shard in shards[first::groups]]
        while readers:
            for reader in tuple(readers):
                if (item := next(reader, None)) is None:
                    readers.remove(reader)
                else:
                    yield item
