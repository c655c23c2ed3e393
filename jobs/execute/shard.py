"""One shard, from its source file to its part file: a plain function that Beam, Prefect and Dask can call."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from jobs import source
from jobs.cascade.exchange import exchange
from jobs.execute.progress import Progress
from jobs.execute.stop import NEVER, StopToken
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.reuse import columns
from jobs.reuse.rows import WINDOW_ROWS, Known, OlderRows
from jobs.sink import Entry, Sink, rejects
from jobs.source import BadRow, Shard
from jobs.store import explain
from transforms.contract import Annotation, Asked, Truncated
from transforms.errors import NightscribeError, Unexpected

Watch = Callable[[Progress], None]
Places = NDArray[np.uint64]


@dataclass(frozen=True)
class Chunk:
    """Some rows of a shard while the tasks process them.

    Attributes:
        batch: the rows that no task has rejected so far, with the columns that tasks have added.
        rejected: rejected rows; None if none.
        tokens: real tokens computed for it.
        padded_tokens: token positions computed for it, including padding.
        known: results of the rows that older part files have.
        places: names of the rows in `batch` by their place in the source, which are the same whenever the shard is
            executed; None if nobody needs them.
        asked: column of a task -> what became of rows that its smaller model was asked first.
        truncated: column of a task -> how many of the rows that it computed were longer than its model's window.
    """

    batch: pa.RecordBatch
    rejected: pa.RecordBatch | None = None
    tokens: int = 0
    padded_tokens: int = 0
    known: tuple[Known, ...] = ()
    places: Places | None = None
    asked: Mapping[str, Asked] = field(default_factory=dict)
    truncated: Mapping[str, Truncated] = field(default_factory=dict)

    @property
    def rows_rejected(self) -> int:
        """Rows in `rejected`."""
        return 0 if self.rejected is None else len(self.rejected)

    @property
    def rows_known(self) -> int:
        """Rows in `batch` with a result that was not computed."""
        masks = [known.mask for known in self.known]
        return int(pc.sum(reduce(pc.or_, masks)).as_py() or 0) if masks else 0

    def slice(self, start: int, rows: int) -> Chunk:
        """Some of its rows; the first of them come with the rejected ones."""
        known = tuple(each.slice(start, rows) for each in self.known)
        places = None if self.places is None else self.places[start : start + rows]
        return Chunk(self.batch.slice(start, rows), None if start else self.rejected, known=known, places=places)


def execute_shard(
    plan: Plan,
    shard: Shard,
    models: ModelPool,
    sink: Sink,
    stop: StopToken = NEVER,
    watch: Watch | None = None,
    older: OlderRows | None = None,
) -> Entry:
    """Read a shard, annotate it with every task of the plan, stage its part file.

    A shard that another worker has finished since the plan was made is skipped. Results that older part files have are
    read from there: whole columns of the same rows, or those of rows that a changed file still has.

    Args:
        plan: the run.
        shard: one of its shards.
        models: loaded tasks of this process; those that are needed and missing are loaded and added.
        sink: the sink that the part file is written to.
        stop: checked between two chunks.
        watch: called with every chunk.
        older: the rows that results can be taken from, shared by the shards of this process.

    Returns:
        The entry that makes the shard done.

    Raises:
        SourceError: the file has changed since it was planned.
        SinkError: the sink cannot be written.
        Stopped: the run was asked to stop.
    """
    before = sink.entry(shard.slot)
    is_done = before is not None and before.shard == shard.id and before.fingerprint == plan.fingerprint
    if before is not None and is_done and before.attempts >= (plan.attempts or {}).get(shard.slot, 0):
        return before
    older = older or OlderRows(plan, sink, stop)
    reused = columns.find(plan, shard, before)
    tasks = [task for task in plan.tasks if task.spec.into not in reused]
    writer = sink.writer(plan, shard)
    rows_reused = 0
    try:
        with columns.reading(before, reused, sink, plan.schema) as reused_columns:
            for chunk in chunks(plan, shard, tasks, older, stop):
                chunk = with_columns(chunk, reused_columns(len(chunk.batch)))
                for task in tasks:
                    chunk = annotate(chunk, task, models, plan)
                counts = chunk.tokens, chunk.padded_tokens, chunk.asked, chunk.truncated
                writer.write(chunk.batch, chunk.rejected, *counts)
                exchange(plan, models, sink.store)
                rows_reused += len(chunk.batch) if reused else chunk.rows_known
                if watch is not None:
                    watch(_progress(chunk))
        entry = writer.stage(tuple(reused), rows_reused)
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


def chunks(plan: Plan, shard: Shard, tasks: list[TaskPlan], older: OlderRows, stop: StopToken) -> Iterator[Chunk]:
    """A shard as chunks with the results that are known; each has at most `plan.chunk_rows` rows to compute.

    Raises:
        SourceError: the file has changed since it was planned.
        Stopped: the run was asked to stop.
    """
    wanted = [task.spec.into for task in tasks]
    if not older.can_have(wanted):
        yield from read(plan, shard, plan.chunk_rows, stop)
        return
    for window in read(plan, shard, max(WINDOW_ROWS, plan.chunk_rows), stop):
        window = replace(window, known=older.find(window.batch, wanted))
        nothing = np.zeros(len(window.batch), np.bool_)
        of = {into: [np.asarray(k.mask) for k in window.known if into in k.values] for into in wanted}
        complete = np.logical_and.reduce([np.logical_or.reduce([nothing, *masks]) for masks in of.values()])
        ends = np.flatnonzero(~complete)[plan.chunk_rows :: plan.chunk_rows].tolist()
        for start, end in itertools.pairwise([0, *ends, len(window.batch)]):
            stop.check()
            yield window.slice(start, end - start)


def read(plan: Plan, shard: Shard, rows: int, stop: StopToken = NEVER) -> Iterator[Chunk]:
    """A shard as chunks, each with the bad rows that came before it; none for a shard without rows.

    Args:
        plan: the run.
        shard: one of its shards.
        rows: rows of a chunk; fewer if they are large.
        stop: checked between two chunks.

    Raises:
        SourceError: the file has changed since it was planned.
        Stopped: the run was asked to stop.
    """
    bad: list[BadRow] = []
    # The id has the version of the file, so the row of that number is the same one at every attempt.
    name, row = np.uint64(int(shard.id[:16], 16)), 0
    for item in source.read(plan.source, shard, rows):
        stop.check()
        if isinstance(item, BadRow):
            bad.append(item)
            continue
        places = name + np.arange(row, row + len(item), dtype=np.uint64)
        yield Chunk(item, rejects.unreadable(bad, plan.source.schema), places=places)
        bad, row = [], row + len(item)
    if bad:
        # An empty table has no batches.
        empty = pa.RecordBatch.from_pylist([], plan.source.schema)
        yield Chunk(empty, rejects.unreadable(bad, plan.source.schema), places=np.zeros(0, np.uint64))


def with_columns(chunk: Chunk, columns: pa.RecordBatch) -> Chunk:
    """The chunk with more columns, of the same rows."""
    batch = chunk.batch
    for name, values in zip(columns.schema.names, columns.columns, strict=True):
        batch = batch.append_column(name, values)
    return replace(chunk, batch=batch)


def annotate(chunk: Chunk, task: TaskPlan, models: ModelPool, plan: Plan) -> Chunk:
    """The chunk with the column of a task; rows that break the task are moved to the rejected."""
    into = task.spec.into
    annotation, cut = _annotation(chunk, task, models)
    batch, known, places = chunk.batch.append_column(into, annotation.values), chunk.known, chunk.places
    rejected = chunk.rejected
    if (broken := rejects.broken(batch, annotation.failures, task.spec.task, plan.source.schema)) is not None:
        rejected = broken if rejected is None else pa.concat_batches([rejected, broken])
        gone = {failure.row for failure in annotation.failures}
        kept = pa.array([row not in gone for row in range(len(batch))], pa.bool_())
        batch, known = batch.filter(kept), tuple(each.filter(kept) for each in known)
        places = None if places is None else places[np.asarray(kept)]
    tokens, padded = chunk.tokens + annotation.tokens, chunk.padded_tokens + annotation.padded_tokens
    asked = {**chunk.asked, into: annotation.asked} if annotation.asked is not None else chunk.asked
    truncated = {**chunk.truncated, into: cut} if cut is not None else chunk.truncated
    return Chunk(batch, rejected, tokens, padded, known, places, asked, truncated)


def _annotation(chunk: Chunk, task: TaskPlan, models: ModelPool) -> tuple[Annotation, Truncated | None]:
    """The results of a task for every row: those that are known, and the others computed; and how many of these it cut.

    The model is loaded when the first row has to be computed.
    """
    into, batch = task.spec.into, chunk.batch
    known = [each for each in chunk.known if into in each.values]
    if not known:
        computed = _computed(batch, chunk.places, task, models)
        return computed, Truncated.of(computed)
    mask, values = known[0].mask, known[0].values[into]
    # Rows of nights with and without a smaller model are known apart from each other.
    for other in known[1:]:
        values = pc.if_else(mask, values, other.values[into])
        mask = pc.or_(mask, other.mask)
    mask = np.asarray(mask)
    if mask.all():
        return Annotation(values), None
    missing = np.flatnonzero(~mask)
    places = None if chunk.places is None else chunk.places[missing]
    computed = _computed(batch.take(pa.array(missing)), places, task, models)
    at = np.arange(len(batch))
    at[missing] = len(batch) + np.arange(len(missing))
    values = pa.concat_arrays([values, computed.values]).take(pa.array(at))
    failures = [replace(failure, row=int(missing[failure.row])) for failure in computed.failures]
    annotation = Annotation(values, failures, computed.tokens, computed.padded_tokens, asked=computed.asked)
    return annotation, Truncated.of(computed)


def _computed(batch: pa.RecordBatch, places: Places | None, task: TaskPlan, models: ModelPool) -> Annotation:
    annotator: Any = models.annotator(task)
    found: Annotation = annotator(batch, places=places) if task.is_cascade else annotator(batch)
    return found


def _progress(chunk: Chunk) -> Progress:
    return Progress(
        rows_in=len(chunk.batch) + chunk.rows_rejected,
        rows_rejected=chunk.rows_rejected,
        tokens=chunk.tokens,
        padded_tokens=chunk.padded_tokens,
    )
