"""Arrow IPC: files (Feather) are split by record batches, streams are read as a whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import pyarrow as pa
from fsspec import AbstractFileSystem

from jobs.source.formats.cells import checked, plain_schema
from jobs.source.formats.parquet import SHARD_ROWS, without_repeated
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import SourceError, UnreadableSource

MAGIC = b"ARROW1"
FEATHER_1 = b"FEA1"


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Schema and record batches; a stream has no index, so it is one range `(0, 0)`.

    Raises:
        UnreadableSource: the file is Feather version 1, or has two columns with the name of a selected one.
    """
    with fs.open(path, "rb") as stream, _named(path):
        if not _is_file(stream, path):
            schema = pa.ipc.open_stream(stream).schema
            return Layout(plain_schema(without_repeated(schema, path, spec)), [(0, 0, None)])
        reader = pa.ipc.open_file(stream)
        ranges: list[tuple[int, int, int | None]] = []
        start = rows = 0
        for i in range(reader.num_record_batches):
            rows += reader.get_batch(i).num_rows
            if rows >= SHARD_ROWS or i == reader.num_record_batches - 1:
                ranges.append((start, i + 1, rows))
                start, rows = i + 1, 0
        return Layout(plain_schema(without_repeated(reader.schema, path, spec)), ranges or [(0, 0, 0)])


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Read record batches `[start, stop)`, or the whole stream.

    Raises:
        SourceError: a record batch is damaged.
    """
    with fs.open(path, "rb") as stream:
        with _named(path):
            reader = pa.ipc.open_file(stream) if _is_file(stream, path) else pa.ipc.open_stream(stream)
        if isinstance(reader, pa.RecordBatchFileReader):
            batches = (reader.get_batch(i) for i in range(start, stop))
        else:
            batches = iter(reader)
        number = start
        # Row numbers count from the beginning of the file, so only the first shard knows them.
        first = None if start else 1
        while True:
            try:
                batch = next(batches, None)
                if batch is None:
                    return
                # Without this check, wrong offsets in a damaged file would be read past the end of its buffers.
                batch.validate()
            except (pa.ArrowException, OSError, EOFError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise
                raise SourceError(
                    f"{path} could not be read as arrow: record batch {number} is damaged or cut off; "
                    f"write the file again, or leave it out with source.path"
                ) from error
            yield from checked(batch, schema, first)
            first = None if first is None else first + len(batch)
            number += 1


@contextmanager
def _named(path: str) -> Iterator[None]:
    """Turn errors of the library into a sentence about the file."""
    try:
        yield
    except (pa.ArrowException, OSError, EOFError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise SourceError(
            f"{path} is not a readable arrow file: it is damaged, cut off or of another kind; write it again, or leave "
            f"it out with source.path"
        ) from error


def _is_file(stream: BinaryIO, path: str) -> bool:
    head = stream.read(len(MAGIC))
    stream.seek(0)
    if head.startswith(FEATHER_1):
        raise UnreadableSource(
            f"{path} is a Feather file of version 1, which no current reader takes; write it again as "
            f"version 2 with an older pyarrow, or as Parquet"
        )
    return head == MAGIC
