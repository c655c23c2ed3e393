"""Columns whose values stand in an older part file of the same shard: they are read, not computed again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.plan import Plan
from jobs.sink.ledger import Entry
from jobs.source import Shard
from jobs.store import Store

# (rows) -> the reused columns of the next so many rows of the shard.
Reader = Callable[[int], pa.RecordBatch]


@dataclass(frozen=True)
class Reuse:
    """What a shard can take from its older part file.

    Attributes:
        part: that file below the sink, or None.
        columns: column of the plan -> column of the file with the same values.
    """

    part: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)

    @contextmanager
    def reading(self, store: Store, schema: pa.Schema) -> Iterator[Reader]:
        """Give a function that reads the columns piece by piece, in the order of the shard's rows.

        Args:
            store: the sink's.
            schema: columns of the plan's part files.
        """
        if self.part is None:
            yield lambda rows: pa.RecordBatch.from_arrays([], names=[])
            return
        fields = [schema.field(into) for into in self.columns]
        with store.fs.open(store.path(self.part), "rb") as stream, pq.ParquetFile(stream) as file:
            batches = file.iter_batches(columns=list(dict.fromkeys(self.columns.values())))
            waiting = file.schema_arrow.empty_table().select(list(dict.fromkeys(self.columns.values())))

            def take(rows: int) -> pa.RecordBatch:
                nonlocal waiting
                while len(waiting) < rows:
                    waiting = pa.concat_tables([waiting, pa.Table.from_batches([next(batches)])])
                piece, waiting = waiting.slice(0, rows), waiting.slice(rows)
                arrays = [
                    _array(piece.column(name), f.type) for name, f in zip(self.columns.values(), fields, strict=True)
                ]
                return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

            yield take


def find(plan: Plan, shard: Shard, before: Entry | None) -> Reuse:
    """What a shard can take from the part file that an entry stands for.

    Only from one of the same rows of the same version of the file, and without rejected rows: a part file does not hold
    those, and another task may reject others.
    """
    if before is None or before.shard != shard.id or before.rows_rejected:
        return Reuse()
    columns = plan.fingerprint.reusable(before.fingerprint)
    return Reuse(before.part, columns) if columns else Reuse()


def _array(column: pa.ChunkedArray, type_: pa.DataType) -> pa.Array:
    """One array of the type that the plan has; Parquet holds a fixed-size list as a list."""
    return column.combine_chunks().cast(type_)
