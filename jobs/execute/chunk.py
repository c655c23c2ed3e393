"""A Chunk is what flows: one RecordBatch of one shard, with what was rejected on the way, and its Beam coder."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass, replace

import apache_beam as beam
import pyarrow as pa
from apache_beam.coders import Coder

from jobs.source import BadRow, Shard
from transforms.task import Failure

REJECT_FIELDS = [
    pa.field("_task", pa.string()),
    pa.field("_error_type", pa.string()),
    pa.field("_message", pa.string()),
    pa.field("_raw", pa.string()),
]


@dataclass(frozen=True)
class Chunk:
    """A piece of a shard on its way through the tasks.

    Attributes:
        shard: where it comes from.
        index: its number within the shard, from 0.
        last: whether the shard ends with it.
        batch: the rows that are well so far, with the columns that tasks have added.
        rejected: rows that are not, source columns plus `_task`, `_error_type`, `_message`, `_raw`; None if none.
        tokens: real tokens computed for it.
        padded_tokens: slots computed for it, padding included.
    """

    shard: Shard
    index: int
    last: bool
    batch: pa.RecordBatch
    rejected: pa.RecordBatch | None = None
    tokens: int = 0
    padded_tokens: int = 0

    @property
    def rows_rejected(self) -> int:
        """Rows in `rejected`."""
        return 0 if self.rejected is None else len(self.rejected)


def reject_schema(source: pa.Schema) -> pa.Schema:
    """Columns of a rejected file: those of the source, then task, error type, message and raw text."""
    return pa.schema([*source, *REJECT_FIELDS])


def unreadable(bad: list[BadRow], source: pa.Schema) -> pa.RecordBatch | None:
    """Rows that could not be read, as rejected rows with null columns and their raw text."""
    if not bad:
        return None
    columns = [pa.nulls(len(bad), field.type) for field in source]
    about = [["source"] * len(bad), *zip(*((row.error_type, row.message, row.raw) for row in bad), strict=True)]
    values = columns + [pa.array(list(value), pa.string()) for value in about]
    return pa.RecordBatch.from_arrays(values, schema=reject_schema(source))


def reject(chunk: Chunk, failures: list[Failure], task: str, source: pa.Schema) -> Chunk:
    """Move rows that broke a task from the batch to the rejected."""
    if not failures:
        return chunk
    rows = pa.array([failure.row for failure in failures], pa.int64())
    inputs = chunk.batch.select(source.names).take(rows)
    about = [
        [task] * len(rows),
        [failure.error_type for failure in failures],
        [failure.message for failure in failures],
        [None] * len(rows),
    ]
    values = [*inputs.columns, *(pa.array(value, pa.string()) for value in about)]
    rejected = pa.RecordBatch.from_arrays(values, schema=reject_schema(source))
    if chunk.rejected is not None:
        rejected = pa.concat_batches([chunk.rejected, rejected])
    gone = {failure.row for failure in failures}
    kept = pa.array([row not in gone for row in range(len(chunk.batch))], pa.bool_())
    return replace(chunk, batch=chunk.batch.filter(kept), rejected=rejected)


class ChunkCoder(Coder):
    """Chunk <-> a JSON header and one or two Arrow IPC streams.

    Pickling a slice would drag its whole parent buffer along (29.9 MB against 3 KB for a slice of 100 rows).
    """

    def encode(self, value: Chunk) -> bytes:
        """Serialise."""
        header = {"shard": asdict(value.shard), "index": value.index, "last": value.last}
        header |= {"tokens": value.tokens, "padded_tokens": value.padded_tokens}
        frames = [json.dumps(header).encode(), _to_ipc(value.batch)]
        frames += [] if value.rejected is None else [_to_ipc(value.rejected)]
        return b"".join(struct.pack("<Q", len(frame)) + frame for frame in frames)

    def decode(self, encoded: bytes) -> Chunk:
        """The inverse of `encode`."""
        frames, at = [], 0
        while at < len(encoded):
            (length,) = struct.unpack_from("<Q", encoded, at)
            frames.append(encoded[at + 8 : at + 8 + length])
            at += 8 + length
        header = json.loads(frames[0])
        shard = Shard(**header.pop("shard"))
        batches = [_from_ipc(frame) for frame in frames[1:]]
        return Chunk(shard, batch=batches[0], rejected=batches[1] if len(batches) > 1 else None, **header)

    def estimate_size(self, value: Chunk) -> int:
        """Bytes, without encoding: Beam asks this of sampled elements."""
        return value.batch.nbytes + (0 if value.rejected is None else value.rejected.nbytes)

    def is_deterministic(self) -> bool:
        """Whether equal chunks give equal bytes: IPC does not promise that."""
        return False

    def to_type_hint(self) -> type[Chunk]:
        """What it codes."""
        return Chunk


def _to_ipc(batch: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _from_ipc(frame: bytes) -> pa.RecordBatch:
    return pa.ipc.open_stream(frame).read_next_batch()


beam.coders.registry.register_coder(Chunk, ChunkCoder)
