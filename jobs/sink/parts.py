"""Chunks -> one part file a shard, its rejected rows beside it, and the ledger entry last."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.execute.chunk import Chunk, reject_schema
from jobs.plan import Plan
from jobs.sink.ledger import Entry, Ledger
from jobs.source.content import content_hash
from jobs.store import Store, explain
from transforms.errors import SinkError

REJECTED = "_rejected"

# Rows buffered before they become a row group: readers like big ones, memory does not.
ROW_GROUP_ROWS = 65_536
ROW_GROUP_BYTES = 64 << 20


class Table:
    """A Parquet file being written under a temporary name.

    Args:
        path: temporary local path.
        schema: columns; its metadata becomes the footer's.
    """

    def __init__(self, path: Path, schema: pa.Schema):
        self.path = path
        self.schema = readable(schema)
        self.rows = 0
        self.writer = pq.ParquetWriter(path, self.schema, compression="zstd")
        self.waiting: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        self.rows += len(batch)
        self.waiting.append(batch)
        waiting = sum(len(b) for b in self.waiting), sum(b.nbytes for b in self.waiting)
        if waiting[0] >= ROW_GROUP_ROWS or waiting[1] >= ROW_GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the footer."""
        self._flush()
        self.writer.close()

    def discard(self) -> None:
        """Give up: close the handle and delete the file."""
        self.writer.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_batches(self.waiting).cast(self.schema.remove_metadata()))
            self.waiting = []


def readable(schema: pa.Schema) -> pa.Schema:
    """The schema with a list for each fixed-size list, which Parquet stores the same.

    With the fixed size in the footer, pyarrow 25 writes nulls among such lists and then cannot read the file
    (https://github.com/apache/arrow/issues/35692).
    """
    fixed = pa.types.is_fixed_size_list
    fields = [f.with_type(pa.list_(f.type.value_field)) if fixed(f.type) else f for f in schema]
    return pa.schema(fields, schema.metadata)


@dataclass
class Part:
    """A shard on its way into the sink: the chunks seen so far."""

    rows: Table
    rejected: Table | None = None
    chunks: int = 0
    rows_in: int = 0
    tokens: int = 0
    padded_tokens: int = 0


class ShardWriter:
    """Takes the chunks of shards, each shard's whole and in order, and publishes a shard with its last chunk.

    Args:
        plan: the run; its schema and fingerprint.
        store: the sink's.
    """

    def __init__(self, plan: Plan, store: Store):
        self.plan = plan
        self.store = store
        self.ledger = Ledger(self.store)
        self.parts: dict[str, Part] = {}

    def write(self, chunk: Chunk) -> Entry | None:
        """Add a chunk; with the last one of its shard, the entry that makes the shard done.

        Raises:
            SinkError: chunks out of order, or an output folder that cannot be written.
        """
        try:
            part = self._part(chunk)
            part.rows.write(self._columns(chunk.batch))
            if chunk.rejected is not None:
                if part.rejected is None:
                    part.rejected = Table(self.store.temporary(), reject_schema(self.plan.source.schema))
                part.rejected.write(chunk.rejected)
            part.chunks += 1
            part.rows_in += len(chunk.batch) + chunk.rows_rejected
            part.tokens += chunk.tokens
            part.padded_tokens += chunk.padded_tokens
            return self._publish(chunk, part) if chunk.last else None
        except OSError as error:
            raise explain(error, self.store.url) from error

    def abandon(self) -> list[str]:
        """Drop what is unfinished; the files of the shards concerned."""
        names = [part.rows.path.name for part in self.parts.values()]
        for part in self.parts.values():
            for table in (part.rows, part.rejected):
                if table is not None:
                    table.discard()
        self.parts.clear()
        return names

    def _part(self, chunk: Chunk) -> Part:
        slot = chunk.shard.slot
        if chunk.index == 0:
            # A bundle that Beam retries starts its shards anew.
            if (old := self.parts.pop(slot, None)) is not None:
                old.rows.discard()
            metadata = {"nightscribe.fingerprint": self.plan.fingerprint.digest, "nightscribe.source": chunk.shard.key}
            metadata["nightscribe.source_version"] = chunk.shard.version
            for i, task in enumerate(self.plan.tasks):
                commits = [f"{pin.name}@{pin.commit}" for pin in (task.model, task.adapter) if pin is not None]
                metadata[f"nightscribe.tasks.{i}"] = " + ".join([task.spec.task, *commits, task.dtype])
            self.parts[slot] = Part(Table(self.store.temporary(), self.plan.schema.with_metadata(metadata)))
        part = self.parts.get(slot)
        if part is None or part.chunks != chunk.index:
            seen = "none" if part is None else str(part.chunks - 1)
            raise SinkError(
                f"chunk {chunk.index} of {chunk.shard.key!r} arrived after chunk {seen}; "
                f"the runner did not keep the order"
            )
        return part

    def _columns(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.select(self.plan.schema.names)

    def _publish(self, chunk: Chunk, part: Part) -> Entry:
        shard = chunk.shard
        part.rows.close()
        rejected_name = None
        if part.rejected is not None:
            part.rejected.close()
            rejected_name = f"{REJECTED}/{shard.part}"
            self.store.publish(part.rejected.path, rejected_name)
        self.store.publish(part.rows.path, shard.part)
        entry = Entry(
            slot=shard.slot,
            shard=shard.id,
            key=shard.key,
            version=shard.version,
            start=shard.start,
            stop=shard.stop,
            limit=shard.limit,
            fingerprint=self.plan.fingerprint,
            rows_in=part.rows_in,
            rows_out=part.rows.rows,
            rows_rejected=part.rejected.rows if part.rejected is not None else 0,
            part=shard.part,
            rejected=rejected_name,
            tokens=part.tokens,
            padded_tokens=part.padded_tokens,
            run_id=self.plan.run_id,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            content=content_hash(shard),
        )
        self.ledger.write(entry)
        del self.parts[shard.slot]
        for table in (part.rows, part.rejected):
            if table is not None:
                table.path.unlink(missing_ok=True)
        return entry


def superseded(plan: Plan, entries: Iterable[Entry]) -> list[Entry]:
    """Entries whose rows have no place in the sink any more.

    Those of a planned source file that are none of its planned shards (the file changed, or is cut differently), and,
    with `on_vanished: remove`, those of files that are gone. A limited run knows nothing of what lies past its limit.
    """
    slots = {shard.slot for shard in plan.shards}
    keys = {shard.key: shard.version for shard in plan.shards}
    limited = plan.spec.source.limit is not None
    gone = []
    for entry in entries:
        if entry.slot in slots:
            continue
        if entry.key in keys:
            if not limited or entry.version != keys[entry.key]:
                gone.append(entry)
        elif plan.spec.sink.on_vanished == "remove" and not limited:
            gone.append(entry)
    return gone
