"""Converts batches from a file to the planned schema, and cuts them to even sizes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

from transforms.errors import SourceError


def conform(batch: pa.RecordBatch, schema: pa.Schema, place: str) -> pa.RecordBatch:
    """Convert a batch to a schema: columns in order, missing columns null, types cast if no value is changed.

    Raises:
        SourceError: a value does not fit its type.
    """
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for field in schema:
        i = batch.schema.get_field_index(field.name)
        if i < 0:
            arrays.append(pa.nulls(len(batch), field.type))
            continue
        try:
            arrays.append(batch.column(i).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(
                f"{place}: column {field.name!r} is {batch.column(i).type}, planned as {field.type}: {error}"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def even(batches: Iterable[pa.RecordBatch], rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Cut and join batches to `rows` rows each, fewer if they would exceed `max_bytes`; the last may be smaller.

    Where a batch is cut depends on the rows alone, so a rerun cuts in the same places.
    """
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        while len(batch):
            per_row = max(1, batch.nbytes // len(batch))
            room = max(1, min(rows - count, (max_bytes - size) // per_row))
            piece, batch = batch.slice(0, room), batch.slice(room)
            waiting.append(piece)
            count, size = count + len(piece), size + per_row * len(piece)
            if count >= rows or size + per_row > max_bytes:
                yield _join(waiting)
                waiting, count, size = [], 0, 0
    if waiting:
        yield _join(waiting)


def _join(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
