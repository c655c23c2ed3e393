"""Whole columns of a shard that did not change, from its older part file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager

import pyarrow as pa

from jobs.plan import Plan
from jobs.sink import Entry, Sink, rows
from jobs.source import Shard

# (count) -> the reused columns of the next `count` rows of the shard.
Reader = Callable[[int], pa.RecordBatch]


def find(plan: Plan, shard: Shard, before: Entry | None) -> dict[str, str]:
    """The columns that a shard can take from the part file of an entry.

    The part file must have the same rows of the same file version, and no task may have rejected a row: a part file
    does not contain rejected rows, and another task may reject other rows. Rows that could not be read reach no task.

    Returns:
        Column of the plan -> column of the file with the same values.
    """
    if before is None or before.shard != shard.id or not before.in_order or before.rows_broken > 0:
        return {}
    return plan.reusable(before.fingerprint)


@contextmanager
def reading(before: Entry | None, columns: Mapping[str, str], sink: Sink, schema: pa.Schema) -> Iterator[Reader]:
    """Give a function that reads columns of a part file piece by piece, in the order of the shard's rows.

    Args:
        before: the entry of the part file.
        columns: column of the plan -> column of the file, as `find` returns it.
        sink: where the file is.
        schema: columns of the plan's part files.
    """
    if before is None or not columns:
        yield lambda count: pa.RecordBatch.from_arrays([], names=[])
        return
    fields = [schema.field(into) for into in columns]
    wanted = list(dict.fromkeys(columns.values()))
    with closing(rows.batches(sink, before, wanted)) as batches:
        waiting: list[pa.RecordBatch] = []

        def take(count: int) -> pa.RecordBatch:
            nonlocal waiting
            while sum(map(len, waiting)) < count:
                waiting.append(next(batches))
            if not count:
                return pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in fields], schema=pa.schema(fields))
            table = pa.Table.from_batches(waiting)
            piece, waiting = table.slice(0, count), table.slice(count).to_batches()
            # Parquet holds a fixed-size list as a list.
            arrays = [
                piece.column(name).combine_chunks().cast(field.type)
                for name, field in zip(columns.values(), fields, strict=True)
            ]
            return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

        yield take
