"""One shard, from its source file to its part file: a plain function that Beam, Prefect and Dask can call."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pyarrow as pa

from jobs import source
from jobs.execute import chunk as chunks
from jobs.execute import reuse
from jobs.execute.chunk import Chunk
from jobs.execute.progress import Progress
from jobs.execute.stop import StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.sink.ledger import Entry, Ledger
from jobs.sink.parts import ShardWriter
from jobs.source import BadRow, Shard
from jobs.store import Store, explain
from transforms.contract import Annotator
from transforms.errors import NightscribeError, Stopped, Unexpected

Watch = Callable[[Progress], None]


def execute(
    plan: Plan,
    shard: Shard,
    models: ModelPool,
    store: Store,
    stop: StopToken = StopToken(),  # noqa: B008 - immutable
    watch: Watch | None = None,
) -> Entry:
    """Read a shard, annotate it with every task of the plan, write its part file, enter it into the ledger.

    A shard that the ledger has by now, since another worker did it, is left as it is. Columns that an older part file
    of the shard holds with the same values are taken from there.

    Args:
        plan: the run.
        shard: one of its shards.
        models: loaded tasks of this process; missing ones are loaded into it.
        store: the sink's.
        stop: looked at between two chunks.
        watch: told of every chunk.

    Returns:
        The entry that makes the shard done.

    Raises:
        SourceError: the file is not what it was when it was planned.
        SinkError: the sink cannot be written.
        Stopped: the run was asked to stop.
    """
    before = Ledger(store).get(shard.slot)
    if before is not None and before.shard == shard.id and before.fingerprint == plan.fingerprint:
        return before
    reused = reuse.find(plan, shard, before)
    annotators = [(task.spec, models.annotator(task)) for task in plan.tasks if task.spec.into not in reused.columns]
    writer = ShardWriter(plan, store)
    entry = None
    try:
        with reused.reading(store, plan.schema) as reused_columns:
            for chunk in read(plan, shard, stop):
                chunk = with_columns(chunk, reused_columns(len(chunk.batch)))
                for task, annotator in annotators:
                    chunk = annotate(chunk, annotator, task.task, task.into, plan)
                entry = writer.write(chunk)
                if watch is not None:
                    watch(_progress(chunk, entry))
    except NightscribeError:
        raise
    except OSError as error:
        raise explain(error, store.url) from error
    except Exception as error:
        raise Unexpected.from_(error, f"enriching {shard.key!r}") from error
    finally:
        writer.abandon()
    assert entry is not None, "the last chunk of a shard is marked"
    return entry


def read(plan: Plan, shard: Shard, stop: StopToken = StopToken()) -> Iterator[Chunk]:  # noqa: B008 - immutable
    """A shard as chunks, at least one, the last one marked.

    Raises:
        SourceError: the file is not what it was when it was planned.
        Stopped: the run was asked to stop.
    """
    waiting: Chunk | None = None
    bad: list[BadRow] = []
    index = 0
    for item in source.read(plan.source, shard, plan.chunk_rows):
        if stop.is_set():
            raise Stopped("the run was asked to stop; a rerun goes on with the first unfinished shard")
        if isinstance(item, BadRow):
            bad.append(item)
            continue
        if waiting is not None:
            yield waiting
        waiting = Chunk(shard, index, False, item, chunks.unreadable(bad, plan.source.schema))
        index, bad = index + 1, []
    rest = chunks.unreadable(bad, plan.source.schema)
    if waiting is not None and rest is None:
        yield replace(waiting, last=True)
        return
    if waiting is not None:
        yield waiting
    empty = pa.RecordBatch.from_arrays([pa.nulls(0, f.type) for f in plan.source.schema], schema=plan.source.schema)
    yield Chunk(shard, index, True, empty, rest)


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
    grown = replace(
        chunk,
        batch=batch,
        tokens=chunk.tokens + annotation.tokens,
        padded_tokens=chunk.padded_tokens + annotation.padded_tokens,
    )
    return chunks.reject(grown, list(annotation.failures), name, plan.source.schema)


def _progress(chunk: Chunk, entry: Entry | None) -> Progress:
    return Progress(
        rows_in=len(chunk.batch) + chunk.rows_rejected,
        rows_rejected=chunk.rows_rejected,
        shards=int(entry is not None),
        tokens=chunk.tokens,
        padded_tokens=chunk.padded_tokens,
    )
