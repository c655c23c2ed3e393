"""Cells to write into CSV files, and the rows that a job would read from a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow, Shard
from jobs.spec import SourceSpec

# Without NUL, which has a test of its own: at the end of a block of 16 bytes Arrow misses the delimiter after it.
cell = st.text(st.sampled_from("ab1,;\t|\"'\\\n\r #é"), max_size=8)


def read(path: Path, texts: Sequence[str] = (), **keys: Any) -> tuple[pa.Table, list[BadRow], list[Shard]]:
    """The rows of a path, its unreadable rows, and its shards.

    Args:
        path: a file or folder.
        texts: columns that tasks read.
        keys: more keys of `source`.
    """
    planned, shards = source.plan(SourceSpec(path=str(path), **keys), texts=texts)
    items = [item for shard in shards for item in source.read(planned, shard, 64)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    table = pa.Table.from_batches(batches, planned.schema)
    return table, [item for item in items if isinstance(item, BadRow)], shards


def rows(table: pa.Table) -> list[tuple[Any, ...]]:
    """A table's rows without their names."""
    return [tuple(row.values()) for row in table.to_pylist()]
