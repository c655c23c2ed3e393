"""The enriched rows of a shard, read back from its part file, or from the files that it shares with other shards."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sink.entry import Entry, Piece
from transforms.errors import UnreadableSink

BATCH_ROWS = 65_536


class Parts(Protocol):
    """What opens part files: a sink."""

    def open(self, entry: Entry) -> BinaryIO:
        """Open the part file of an entry."""
        ...

    def open_part(self, name: str) -> BinaryIO:
        """Open a published part file by its name."""
        ...


def batches(
    sink: Parts, entry: Entry, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Generator[pa.RecordBatch, None, None]:
    """The rows of an entry, in order.

    Args:
        sink: where they are.
        entry: a shard, staged or published.
        columns: those to read; by default all.
        batch_rows: the most rows of a batch.

    Raises:
        FileNotFoundError: a part file is gone.
        UnreadableSink: it is damaged.
    """
    if not entry.in_table:
        with _named(entry.part), sink.open(entry) as stream, pq.ParquetFile(stream) as file:
            yield from file.iter_batches(batch_rows, columns=_list(columns))
        return
    for piece in entry.pieces:
        with _named(piece.part), sink.open_part(piece.part) as stream, pq.ParquetFile(stream) as file:
            yield from of_piece(file, piece, columns, batch_rows)


def of_piece(
    file: pq.ParquetFile, piece: Piece, columns: Sequence[str] | None = None, batch_rows: int = BATCH_ROWS
) -> Iterator[pa.RecordBatch]:
    """The rows of a piece; row groups that have none of them are not read."""
    groups, before, first = [], 0, None
    for i in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(i).num_rows
        if before < piece.first_row + piece.rows and before + rows > piece.first_row:
            groups.append(i)
            first = before if first is None else first
        before += rows
    at, stop = first or 0, piece.first_row + piece.rows
    for batch in file.iter_batches(batch_rows, row_groups=groups, columns=_list(columns)) if groups else ():
        start, end = max(piece.first_row - at, 0), min(stop - at, len(batch))
        at += len(batch)
        if end > start:
            yield batch.slice(start, end - start)


@contextmanager
def _named(part: str) -> Iterator[None]:
    """Turn errors of the library into a sentence about the part file."""
    try:
        yield
    except (pa.ArrowInvalid, OSError) as error:
        # An error of the system has a number; what Arrow raises for a damaged page has none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        said = str(error).split(". ")[0]
        raise UnreadableSink(
            f"{part!r} in the sink is damaged ({said}); restore the file, or delete it and run the job again, which "
            f"writes it anew"
        ) from error


def _list(columns: Sequence[str] | None) -> list[str] | None:
    return None if columns is None else list(columns)
