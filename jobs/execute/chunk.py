"""A Chunk is a piece of a shard on its way through the tasks: one RecordBatch, and the rows rejected so far."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pyarrow as pa

from jobs.source import BadRow, Shard
from transforms.contract import Failure

REJECT_FIELDS = [
    pa.field("_task", pa.string()),
    pa.field("_error_type", pa.string()),
    pa.field("_message", pa.string()),
    pa.field("_raw", pa.string()),
]


@dataclass(frozen=True)
class Chunk:
    """A piece of a shard on its way through the tasks.

    Attributes:
        shard: where it comes from.
        index: its number within the shard, from 0.
        last: whether the shard ends with it.
        batch: the rows that no task has rejected so far, with the columns that tasks have added.
        rejected: rejected rows, source columns plus `_task`, `_error_type`, `_message`, `_raw`; None if none.
        tokens: real tokens computed for it.
        padded_tokens: slots computed for it, padding included.
    """

    shard: Shard
    index: int
    last: bool
    batch: pa.RecordBatch
    rejected: pa.RecordBatch | None = None
    tokens: int = 0
    padded_tokens: int = 0

    @property
    def rows_rejected(self) -> int:
        """Rows in `rejected`."""
        return 0 if self.rejected is None else len(self.rejected)


def reject_schema(source: pa.Schema) -> pa.Schema:
    """Columns of a rejected file: those of the source, then task, error type, message and raw text."""
    return pa.schema([*source, *REJECT_FIELDS])


def unreadable(bad: list[BadRow], source: pa.Schema) -> pa.RecordBatch | None:
    """Rows that could not be read, as rejected rows with null columns and their raw text."""
    if not bad:
        return None
    columns = [pa.nulls(len(bad), field.type) for field in source]
    about = [["source"] * len(bad), *zip(*((row.error_type, row.message, row.raw) for row in bad), strict=True)]
    values = columns + [pa.array(list(value), pa.string()) for value in about]
    return pa.RecordBatch.from_arrays(values, schema=reject_schema(source))


def reject(chunk: Chunk, failures: list[Failure], task: str, source: pa.Schema) -> Chunk:
    """Move rows that broke a task from the batch to the rejected."""
    if not failures:
        return chunk
    rows = pa.array([failure.row for failure in failures], pa.int64())
    inputs = chunk.batch.select(source.names).take(rows)
    about = [
        [task] * len(rows),
        [failure.error_type for failure in failures],
        [failure.message for failure in failures],
        [None] * len(rows),
    ]
    values = [*inputs.columns, *(pa.array(value, pa.string()) for value in about)]
    rejected = pa.RecordBatch.from_arrays(values, schema=reject_schema(source))
    if chunk.rejected is not None:
        rejected = pa.concat_batches([chunk.rejected, rejected])
    gone = {failure.row for failure in failures}
    kept = pa.array([row not in gone for row in range(len(chunk.batch))], pa.bool_())
    return replace(chunk, batch=chunk.batch.filter(kept), rejected=rejected)
