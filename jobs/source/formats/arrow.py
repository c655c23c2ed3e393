"""Arrow IPC: files (Feather) split by record batches, streams read whole."""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
from fsspec import AbstractFileSystem

from jobs.source.formats.parquet import SHARD_ROWS
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec

MAGIC = b"ARROW1"


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Schema and record batches; a stream has no index, so it is one range `(0, 0)`."""
    with fs.open(path, "rb") as stream:
        if not _is_file(stream):
            return Layout(pa.ipc.open_stream(stream).schema.remove_metadata(), [(0, 0, None)])
        reader = pa.ipc.open_file(stream)
        ranges: list[tuple[int, int, int | None]] = []
        start = rows = 0
        for i in range(reader.num_record_batches):
            rows += reader.get_batch(i).num_rows
            if rows >= SHARD_ROWS or i == reader.num_record_batches - 1:
                ranges.append((start, i + 1, rows))
                start, rows = i + 1, 0
        return Layout(reader.schema.remove_metadata(), ranges or [(0, 0, 0)])


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Read record batches `[start, stop)`, or the whole stream."""
    with fs.open(path, "rb") as stream:
        if _is_file(stream):
            reader = pa.ipc.open_file(stream)
            yield from (reader.get_batch(i) for i in range(start, stop))
        else:
            yield from pa.ipc.open_stream(stream)


def _is_file(stream: BinaryIO) -> bool:
    head = stream.read(len(MAGIC))
    stream.seek(0)
    return head == MAGIC
