"""One shard, from its source file to its part file: a plain function that Beam, Prefect and Dask can call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pyarrow as pa

from jobs import source
from jobs.execute import reuse
from jobs.execute.progress import Progress
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.sink import Entry, Sink, rejects
from jobs.source import BadRow, Shard
from jobs.store import explain
from transforms.contract import Annotator
from transforms.errors import NightscribeError, Stopped, Unexpected

Watch = Callable[[Progress], None]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a shard while the tasks process them.

    Attributes:
        batch: the rows that no task has rejected so far, with the columns that tasks have added.
        rejected: rejected rows; None if none.
        tokens: real tokens computed for it.
        padded_tokens: token positions computed for it, including padding.
    """

    batch: pa.RecordBatch
    rejected: pa.RecordBatch | None = None
    tokens: int = 0
    padded_tokens: int = 0

    @property
    def rows_rejected(self) -> int:
        """Rows in `rejected`."""
        return 0 if self.rejected is None else len(self.rejected)


def execute_shard(
    plan: Plan,
    shard: Shard,
    models: ModelPool,
    sink: Sink,
    stop: StopToken = NEVER,
    watch: Watch | None = None,
) -> Entry:
    """Read a shard, annotate it with every task of the plan, stage its part file.

    A shard that another worker has finished since the plan was made is skipped. Columns that have the same values in an
    older part file of the shard are read from that file.

    Args:
        plan: the run.
        shard: one of its shards.
        models: loaded tasks of this process; missing ones are loaded and added.
        sink: the sink that the part file is written to.
        stop: checked between two chunks.
        watch: called with every chunk.

    Returns:
        The entry that makes the shard done.

    Raises:
        SourceError: the file has changed since it was planned.
        SinkError: the sink cannot be written.
        Stopped: the run was asked to stop.
    """
    before = sink.entry(shard.slot)
    if before is not None and before.shard == shard.id and before.fingerprint == plan.fingerprint:
        return before
    reused = reuse.find(plan, shard, before)
    annotators = [(task.spec, models.annotator(task)) for task in plan.tasks if task.spec.into not in reused]
    writer = sink.writer(plan, shard)
    try:
        with reuse.reading(before, reused, sink, plan.schema) as reused_columns:
            for chunk in read(plan, shard, stop):
                chunk = with_columns(chunk, reused_columns(len(chunk.batch)))
                for task, annotator in annotators:
                    chunk = annotate(chunk, annotator, task.task, task.into, plan)
                writer.write(chunk.batch, chunk.rejected, chunk.tokens, chunk.padded_tokens)
                if watch is not None:
                    watch(_progress(chunk))
        entry = writer.stage(tuple(reused))
    except NightscribeError:
        raise
    except OSError as error:
        raise explain(error, plan.spec.sink.path) from error
    except Exception as error:
        raise Unexpected.from_(error, f"enriching {shard.key!r}") from error
    finally:
        writer.discard()
    if watch is not None:
        watch(Progress(shards=1))
    return entry


def read(plan: Plan, shard: Shard, stop: StopToken = NEVER) -> Iterator[Chunk]:
    """A shard as chunks, each with the bad rows that came before it; none for a shard without rows.

    Raises:
        SourceError: the file has changed since it was planned.
        Stopped: the run was asked to stop.
    """
    bad: list[BadRow] = []
    for item in source.read(plan.source, shard, plan.chunk_rows):
        if stop.is_set():
            raise Stopped("the run was asked to stop; run again to continue with the first unfinished shard")
        if isinstance(item, BadRow):
            bad.append(item)
            continue
        yield Chunk(item, rejects.unreadable(bad, plan.source.schema))
        bad = []
    if bad:
        # An empty table has no batches.
        empty = pa.RecordBatch.from_pylist([], plan.source.schema)
        yield Chunk(empty, rejects.unreadable(bad, plan.source.schema))


def with_columns(chunk: Chunk, columns: pa.RecordBatch) -> Chunk:
    """The chunk with more columns, of the same rows."""
    batch = chunk.batch
    for name, values in zip(columns.schema.names, columns.columns, strict=True):
        batch = batch.append_column(name, values)
    return replace(chunk, batch=batch)


def annotate(chunk: Chunk, annotator: Annotator, name: str, into: str, plan: Plan) -> Chunk:
    """The chunk with one more column; rows that break the task are moved to the rejected."""
    annotation = annotator(chunk.batch)
    batch = chunk.batch.append_column(into, annotation.values)
    rejected = chunk.rejected
    if (broken := rejects.broken(batch, annotation.failures, name, plan.source.schema)) is not None:
        rejected = broken if rejected is None else pa.concat_batches([rejected, broken])
        gone = {failure.row for failure in annotation.failures}
        batch = batch.filter(pa.array([row not in gone for row in range(len(batch))], pa.bool_()))
    return Chunk(batch, rejected, chunk.tokens + annotation.tokens, chunk.padded_tokens + annotation.padded_tokens)


def _progress(chunk: Chunk) -> Progress:
    return Progress(
        rows_in=len(chunk.batch) + chunk.rows_rejected,
        rows_rejected=chunk.rows_rejected,
        tokens=chunk.tokens,
        padded_tokens=chunk.padded_tokens,
    )
