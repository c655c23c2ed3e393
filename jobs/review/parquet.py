"""Parquet files of a review folder, which are small enough for memory."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.store import Store
from transforms.errors import SinkError


def load(store: Store, name: str, wanted: list[str] | None = None) -> pa.Table:
    """A file of the review folder, or some of its columns.

    Raises:
        SinkError: it is missing or damaged.
    """
    try:
        with store.open(name) as stream:
            return pq.read_table(stream, columns=wanted)
    except (pa.ArrowInvalid, FileNotFoundError) as error:
        raise SinkError(f"{store.url}/{name} is missing or damaged; restore it from a copy ({error})") from error


def content(table: pa.Table) -> bytes:
    """The bytes of a file with these rows."""
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()
