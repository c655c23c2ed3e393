"""Parquet files, split by row groups."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec import AbstractFileSystem

from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec

# A shard has at least these rows, unless its file has fewer; below, part files get too small for a lake.
SHARD_ROWS = 50_000


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Read the footer: schema and row groups, the small ones taken together."""
    with fs.open(path, "rb") as stream:
        metadata = pq.read_metadata(stream)
    ranges: list[tuple[int, int, int | None]] = []
    start = rows = 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= SHARD_ROWS or group == metadata.num_row_groups - 1:
            ranges.append((start, group + 1, rows))
            start, rows = group + 1, 0
    return Layout(metadata.schema.to_arrow_schema().remove_metadata(), ranges or [(0, 0, 0)])


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Read row groups `[start, stop)`, only the columns of `schema` that the file has."""
    with fs.open(path, "rb") as stream, pq.ParquetFile(stream) as file:
        columns = [name for name in schema.names if name in file.schema_arrow.names]
        yield from file.iter_batches(batch_rows, row_groups=list(range(start, stop)), columns=columns)
