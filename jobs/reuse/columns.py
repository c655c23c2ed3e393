"""Whole columns of a shard that did not change, from its older part file."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.plan import Plan
from jobs.sink import Entry, Sink
from jobs.source import Shard

# (rows) -> the reused columns of the next `rows` rows of the shard.
Reader = Callable[[int], pa.RecordBatch]


def find(plan: Plan, shard: Shard, before: Entry | None) -> dict[str, str]:
    """The columns that a shard can take from the part file of an entry.

    The part file must have the same rows of the same file version, and no task may have rejected a row: a part file
    does not contain rejected rows, and another task may reject other rows. Rows that could not be read reach no task.

    Returns:
        Column of the plan -> column of the file with the same values.
    """
    if before is None or before.shard != shard.id or before.rows_rejected > _unreadable(before):
        return {}
    return plan.fingerprint.reusable(before.fingerprint)


def _unreadable(entry: Entry) -> int:
    """Rows that were rejected while they were read."""
    rejects = (entry.findings or {}).get("rejects", {})
    return sum(rows for reason, rows in rejects.items() if reason.startswith("source: "))


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
        yield lambda rows: pa.RecordBatch.from_arrays([], names=[])
        return
    fields = [schema.field(into) for into in columns]
    wanted = list(dict.fromkeys(columns.values()))
    before_first = before.first_row
    with sink.open(before) as stream, pq.ParquetFile(stream) as file:
        batches = file.iter_batches(columns=wanted)
        waiting = file.schema_arrow.empty_table().select(wanted)

        def take(rows: int) -> pa.RecordBatch:
            nonlocal waiting, before_first
            while len(waiting) < before_first + rows:
                waiting = pa.concat_tables([waiting, pa.Table.from_batches([next(batches)])])
                skipped = min(before_first, len(waiting))
                waiting, before_first = waiting.slice(skipped), before_first - skipped
            piece, waiting = waiting.slice(0, rows), waiting.slice(rows)
            # Parquet holds a fixed-size list as a list.
            arrays = [
                piece.column(name).combine_chunks().cast(field.type)
                for name, field in zip(columns.values(), fields, strict=True)
            ]
            return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

        yield take
