"""The first rows of a run, to try something on before it begins."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from jobs.execute import shard as shards
from jobs.plan import Plan

# Only this many code points of a text are taken, about 250 tokens: longer texts take minutes.
TEXT_LENGTH = 1000


def first_rows(plan: Plan, rows: int, text_length: int = TEXT_LENGTH) -> pa.RecordBatch:
    """The first rows that are to do, with long texts cut.

    Args:
        plan: the run.
        rows: maximum number of rows.
        text_length: maximum number of code points of a text.
    """
    batches: list[pa.RecordBatch] = []
    for shard in plan.shards_todo:
        for chunk in shards.read(plan, shard, min(rows, plan.chunk_rows)):
            batches.append(chunk.batch)
            if sum(map(len, batches)) >= rows:
                break
        if sum(map(len, batches)) >= rows:
            break
    table = pa.Table.from_batches(batches, plan.source.schema).slice(0, rows).combine_chunks()
    batch = table.to_batches()[0] if len(table) else pa.RecordBatch.from_pylist([], plan.source.schema)
    return pa.RecordBatch.from_arrays([_cut(column, text_length) for column in batch.columns], schema=batch.schema)


def _cut(column: pa.Array, length: int) -> pa.Array:
    is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    return pc.utf8_slice_codeunits(column, 0, length) if is_text else column
