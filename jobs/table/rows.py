"""The rows of a Parquet data file of a table: those that are not deleted, under the table's column names."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from jobs.source.formats import parquet
from jobs.table.columns import Column, conform, names

# Positions of deleted rows in a file, from 0, in order.
Deleted = np.ndarray


def identity(deleted: Deleted) -> str:
    """A hash of positions: deletes that are written anew elsewhere stay the same; empty if there are none."""
    return hashlib.blake2b(deleted.astype("<i8").tobytes(), digest_size=8).hexdigest() if len(deleted) else ""


def ranges(stream: BinaryIO, place: str, deleted: Deleted) -> list[tuple[int, int, int]]:
    """Ranges of row groups that can be read separately: (first, one past the last, rows that are not deleted).

    Raises:
        SourceError: it is not a Parquet file.
    """
    found, first = [], 0
    with parquet.open_file(stream, place) as file:
        for start, stop, rows in parquet.ranges(file.metadata):
            gone = int(np.diff(np.searchsorted(deleted, [first, first + rows]))[0])
            found.append((start, stop, rows - gone))
            first += rows
    return found or [(0, 0, 0)]


def read(
    stream: BinaryIO,
    place: str,
    groups: tuple[int, int],
    columns: Sequence[Column],
    deleted: Deleted,
    ids: Mapping[str, int],
    values: Mapping[str, Any],
    batch_rows: int,
) -> Iterator[tuple[int | None, pa.RecordBatch]]:
    """The rows of a range that are not deleted.

    Args:
        stream: the file.
        place: its name, for errors.
        groups: first row group, and one past the last; (0, 0) for all of the file.
        columns: columns of the table that are wanted.
        deleted: positions of its deleted rows.
        ids: path of a field -> id, for files without ids.
        values: column -> its value in all rows if the file does not have it.
        batch_rows: rows of a batch, at most.

    Yields:
        (Number of the first row in the file, from 0, or None if rows are missing between them; rows.) Types are those
        of the file.

    Raises:
        SourceError: the file is damaged.
    """
    with parquet.open_file(stream, place) as file:
        schema = file.schema_arrow
        there = list(dict.fromkeys(names(columns, schema, ids).values()))
        start, stop = groups if groups[1] else (0, file.metadata.num_row_groups)
        if hasattr(stream, "prefetch"):
            # What a file of an object store has, which is read in parts: see `jobs.source.remote`.
            stream.prefetch(parquet.chunks(file.metadata, range(start, stop), there))
        for first, batch in parquet.batches(file, place, range(start, stop), there, batch_rows):
            found = conform(batch, schema, columns, ids, values)
            low, high = np.searchsorted(deleted, [first, first + len(batch)])
            if low == high:
                yield first, found
                continue
            kept = np.ones(len(batch), bool)
            kept[deleted[low:high] - first] = False
            yield None, found.filter(pa.array(kept))
