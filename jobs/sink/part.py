"""Rows of one shard -> a part file, its rejected rows beside it, and the entry that makes the shard done."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.plan import Plan
from jobs.report.observer import Observer
from jobs.sink.entry import Entry
from jobs.sink.ledger import Ledger
from jobs.sink.rejects import reject_schema
from jobs.source import Shard
from jobs.source.content import content_hash
from jobs.store import Store, names
from transforms.contract import Asked, Truncated
from transforms.errors import SpecError

# Keys of a footer: the source file, and its version.
SOURCE = "nightscribe.source"
SOURCE_VERSION = "nightscribe.source_version"

# Rows buffered before they become a row group: large groups are faster to read, but need more memory.
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
        self.writer = pq.ParquetWriter(
            path,
            self.schema,
            compression="zstd",
            # Page boundaries depend on the content, so that deduplicating stores keep equal parts of two versions once.
            use_content_defined_chunking=True,
            write_page_index=True,
        )
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
        """Close the handle and delete the file."""
        self.writer.close()
        self.path.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self.waiting:
            # A table has other types for some columns, all of them wider but timestamps in nanoseconds.
            rows = pa.Table.from_batches(self.waiting).cast(self.schema.remove_metadata(), safe=False)
            self.writer.write_table(rows)
            self.waiting = []


def check_columns(schema: pa.Schema) -> None:
    """Refuse columns that a part file cannot hold.

    Raises:
        SpecError: with the columns, their types and the fix.
    """
    if found := unwritable(schema):
        columns = ", ".join(f"{column.name!r} ({column.type})" for column in found)
        raise SpecError(
            f"the rows are written as Parquet, which cannot hold {columns}; leave such columns out with "
            f"source.columns, or convert them with source.prepare"
        )


def unwritable(schema: pa.Schema) -> list[pa.Field]:
    """Columns that Parquet cannot hold, such as intervals and unions: found by writing a null of each to memory."""
    found = []
    for column in readable(schema):
        one = pa.schema([column.with_nullable(True)])
        try:
            pq.write_table(pa.Table.from_arrays([pa.nulls(1, column.type)], schema=one), pa.BufferOutputStream())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError):
            found.append(schema.field(column.name))
    return found


def readable(schema: pa.Schema) -> pa.Schema:
    """The schema with a list for each fixed-size list, which Parquet stores the same.

    With the fixed size in the footer, pyarrow 25 writes nulls among such lists and then cannot read the file
    (https://github.com/apache/arrow/issues/35692).
    """
    fixed = pa.types.is_fixed_size_list
    fields = [f.with_type(pa.list_(f.type.value_field)) if fixed(f.type) else f for f in schema]
    return pa.schema(fields, schema.metadata)


class PartWriter:
    """Takes the rows of one shard in order; `stage` finishes the shard, `discard` drops it.

    Args:
        plan: the run; its schema and fingerprint.
        shard: the shard.
        name: its part file below the sink.
        store: the sink's.
        staged: the ledger of shards that are not published yet.
    """

    def __init__(self, plan: Plan, shard: Shard, name: str, store: Store, staged: Ledger):
        self.plan, self.shard, self.name = plan, shard, name
        self.store, self.staged = store, staged
        self.rows = Table(store.temporary(), plan.schema.with_metadata(_footer(plan, shard)))
        self.rejected: Table | None = None
        self.id = uuid.uuid4().hex[:12]
        self.observer = Observer([task.spec for task in plan.tasks], shard.key)
        self.tokens = self.padded_tokens = 0
        self.asked: dict[str, Asked] = {}
        self.truncated: dict[str, Truncated] = {}

    def write(
        self,
        batch: pa.RecordBatch,
        rejected: pa.RecordBatch | None = None,
        tokens: int = 0,
        padded_tokens: int = 0,
        asked: Mapping[str, Asked] = MappingProxyType({}),
        truncated: Mapping[str, Truncated] = MappingProxyType({}),
    ) -> None:
        """Add rows.

        Args:
            batch: source columns and those of the tasks.
            rejected: rows rejected with it; columns of the source, then REJECT_FIELDS.
            tokens: real tokens computed for them.
            padded_tokens: token positions computed for them, including padding.
            asked: column of a task -> what became of rows that its smaller model was asked first.
            truncated: column of a task -> how many of the rows that it computed were longer than its model's window.
        """
        batch = batch.select(self.plan.schema.names)
        self.rows.write(batch)
        if rejected is not None:
            if self.rejected is None:
                schema = reject_schema(self.plan.source.schema).with_metadata(_footer(self.plan, self.shard))
                self.rejected = Table(self.store.temporary(), schema)
            self.rejected.write(rejected)
        self.observer.observe(batch, rejected)
        self.tokens += tokens
        self.padded_tokens += padded_tokens
        for into, more in asked.items():
            self.asked[into] = self.asked.get(into, Asked()) + more
        for into, cut in truncated.items():
            self.truncated[into] = self.truncated.get(into, Truncated()) + cut

    def stage(self, reused: tuple[str, ...] = (), rows_reused: int | None = None) -> Entry:
        """Move the files to the staged files and write the entry to the staged ledger.

        Args:
            reused: columns that were taken from an older part file for all rows.
            rows_reused: rows of which at least one column was not computed; by default all, if there are such columns.
        """
        self.rows.close()
        rejected_name = None
        if self.rejected is not None:
            self.rejected.close()
            rejected_name = f"{names.REJECTED}/{self.name}{names.REJECTED_ENDING}"
            self.store.publish(self.rejected.path, self.staged.file(rejected_name, self.id))
        self.store.publish(self.rows.path, self.staged.file(self.name, self.id))
        rows_rejected = 0 if self.rejected is None else self.rejected.rows
        shard = self.shard
        entry = Entry(
            slot=shard.slot,
            shard=shard.id,
            key=shard.key,
            version=shard.version,
            start=shard.start,
            stop=shard.stop,
            limit=shard.limit,
            fingerprint=self.plan.fingerprint,
            rows_in=self.rows.rows + rows_rejected,
            rows_out=self.rows.rows,
            rows_rejected=rows_rejected,
            part=self.name,
            rejected=rejected_name,
            tokens=self.tokens,
            padded_tokens=self.padded_tokens,
            run_id=self.plan.run_id,
            time=datetime.now(UTC).isoformat(timespec="seconds"),
            content=content_hash(shard),
            findings=self.observer.findings().to_json(),
            reused=reused,
            lease=self.plan.lease,
            attempts=(self.plan.attempts or {}).get(shard.slot, 0),
            rows_reused=rows_reused if rows_reused is not None else self.rows.rows if reused else 0,
            writer=self.id,
            asked=self.asked,
            truncated=self.truncated,
        )
        self.staged.write(entry)
        self._clear()
        return entry

    def discard(self) -> None:
        """Drop the shard; no effect once it is staged."""
        for table in (self.rows, self.rejected):
            if table is not None:
                table.discard()

    def _clear(self) -> None:
        # On an object store the local copy stays when it is uploaded.
        for table in (self.rows, self.rejected):
            if table is not None:
                table.path.unlink(missing_ok=True)


def _footer(plan: Plan, shard: Shard) -> dict[str, str]:
    """The footer of a file: the origin of its rows, and the models that computed each column."""
    metadata = {"nightscribe.fingerprint": plan.fingerprint.digest, SOURCE: shard.key}
    metadata[SOURCE_VERSION] = shard.version
    for i, task in enumerate(plan.tasks):
        commits = [f"{pin.name}@{pin.commit}" for pin in task.pins]
        computed = [task.dtype, task.device] if task.model is not None else []
        computed += [task.engine] if task.engine != "torch" else []
        computed += [f"agreement {task.agreement:g}"] if task.agreement is not None else []
        metadata[f"nightscribe.tasks.{i}"] = " + ".join([task.spec.task, *commits, *computed])
    return metadata
