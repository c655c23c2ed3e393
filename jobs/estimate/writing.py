"""What writing takes: some rows are written to a folder of this machine as the run would write them."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from jobs.estimate.pool import Pool
from jobs.plan import Plan
from jobs.sink.folder import FolderSink
from jobs.store import Store

# Rows and shards that are written.
ROWS, SHARDS = 4096, 4


@dataclass(frozen=True)
class Written:
    """What writing takes.

    Attributes:
        row_s: seconds for each row.
        shard_s: seconds for each shard.
        row_bytes: bytes of a row.
    """

    row_s: float
    shard_s: float
    row_bytes: float


def write(plan: Plan, rows: Pool, values: Mapping[str, Sequence[pa.Array]]) -> Written:
    """Write rows of the pool with the values of the tasks, and some shards of one row.

    Args:
        plan: the run.
        rows: the pool.
        values: column of a task -> some of its values, which are repeated.
    """
    chunks = [chunk for chunk in rows.chunks if len(chunk.batch)]
    if not chunks:
        return Written(0.0, 0.0, 0.0)
    batch = pa.Table.from_batches([chunk.batch for chunk in chunks]).slice(0, ROWS).combine_chunks().to_batches()[0]
    for task in plan.tasks:
        type_ = plan.schema.field(task.spec.into).type
        found = pa.concat_arrays(values[task.spec.into]) if values[task.spec.into] else pa.nulls(1, type_)
        if not found.type.equals(type_):
            found = found.cast(type_)
        batch = batch.append_column(task.spec.into, found.take(pa.array(np.arange(len(batch)) % len(found))))
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as folder:
        sink = FolderSink(Store(str(Path(folder) / "sink")))
        shard = replace(chunks[0].shard, limit=None)
        taken: list[float] = []
        sizes: list[int] = []
        # The first time is not measured: files are opened, code is loaded.
        for number in range(SHARDS + 2):
            begun = time.perf_counter()
            writer = sink.writer(plan, replace(shard, start=number, stop=number + 1))
            try:
                writer.write(batch if number == 1 else batch.slice(0, 1))
                entry = writer.stage()
            finally:
                writer.discard()
            taken.append(time.perf_counter() - begun)
            with sink.open(entry) as stream:
                sizes.append(stream.seek(0, 2))
        shard_s, shard_bytes = float(np.median(taken[2:])), int(np.median(sizes[2:]))
        rest_s, rest_bytes = max(0.0, taken[1] - shard_s), max(0, sizes[1] - shard_bytes)
        return Written(rest_s / len(batch), shard_s, rest_bytes / len(batch))
