"""Draw rows of a run for people to label: staged in the sink before the commit, published to the review folder after.

A run that is killed in between leaves its draw staged. The next run publishes it if the rows were committed, and drops
it otherwise, so that people see the rows of every committed run once, and no others.
"""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.plan import Plan
from jobs.review import columns, formats, parquet, question
from jobs.review import population as populations
from jobs.review.drawn import draw_rows
from jobs.sink import Entry
from jobs.sink.folder import FolderSink
from jobs.spec.review import ReviewSpec
from jobs.store import Store, names

LOG = logging.getLogger(__name__)

ROWS, SCORES = ".rows", ".scores"
# Key of the footer -> the ledger entry that is published together with the rows.
COMMITTED = b"nightscribe.committed_with"


def folder(review: ReviewSpec) -> Store:
    """The review folder of a job.

    Raises:
        SpecError: no such kind of URL.
    """
    return Store(review.path, "review.path")


def commit(plan: Plan, sink: FolderSink, check: Callable[[Mapping[str, Entry]], None]) -> tuple[list[Entry], int]:
    """Commit a run, and draw rows of it for review.

    Args:
        plan: the run, executed.
        sink: where its rows are staged.
        check: as for `FolderSink.commit`, which also says what is raised.

    Returns:
        The entries that were removed together with their rows, and the number of drawn rows.
    """
    # A run that was killed after its commit has left a draw.
    publish(plan, sink)
    stage(plan, sink)
    removed = sink.commit(plan, check)
    return removed, publish(plan, sink)


def stage(plan: Plan, sink: FolderSink) -> None:
    """Draw rows of what the run is about to commit, and keep them in the sink.

    Raises:
        SinkError: the review folder cannot be read, or the sink cannot be written.
    """
    review, place = plan.spec.review, plan.spec.reviewed
    entries = [] if review is None else sink.to_publish(plan)
    if review is None or place is None or not entries:
        return
    drawn = drawn_before(folder(review), plan.spec.name)
    population = populations.of(plan, sink, entries, plan.tasks[place], drawn)
    rows = draw_rows(plan, sink, plan.tasks[place], population, review)
    scores = pa.table({"score": pa.array(population.scores, pa.float32())})
    # The rows are written last: without them the draw is incomplete.
    sink.store.put(f"{names.REVIEW}/{plan.run_id}{SCORES}", parquet.content(scores))
    rows = question.with_question(rows, question.of(plan.tasks[place]))
    marked = rows.replace_schema_metadata(rows.schema.metadata | {COMMITTED: json.dumps(_mark(entries[0]))})
    sink.store.put(f"{names.REVIEW}/{plan.run_id}{ROWS}", parquet.content(marked))
    LOG.info("run %s: %d of %d new texts are drawn for review", plan.run_id, len(rows), len(population.keys))


def publish(plan: Plan, sink: FolderSink) -> int:
    """Publish the staged draws of committed runs, and drop those of runs that were not committed.

    Returns:
        The number of rows that were drawn from this run.

    Raises:
        SinkError: the review folder cannot be written; the next run publishes the draw then.
    """
    if plan.spec.review is None:
        return 0
    store, job, count = folder(plan.spec.review), plan.spec.name, 0
    staged = sink.store.names(names.REVIEW)
    for name in (each for each in staged if each.endswith(ROWS)):
        run = name.rpartition("/")[2].removesuffix(ROWS)
        rows = pq.read_table(io.BytesIO(sink.store.get(name)))
        metadata = dict(rows.schema.metadata or {})
        mark = json.loads(metadata.pop(COMMITTED))
        rows = rows.replace_schema_metadata(metadata)
        entry = sink.published.get(mark["slot"])
        if entry is not None and _mark(entry) == mark:
            store.put(columns.scores_file(job, run), sink.store.get(f"{names.REVIEW}/{run}{SCORES}"))
            formats.write(store, job, run, rows)
            store.put(columns.draw_file(job, run), parquet.content(rows))
            count += len(rows) if run == plan.run_id else 0
    for name in sorted(staged):
        # In this order a draw that was half deleted is not published again.
        sink.store.delete(name)
    return count


def drawn_before(store: Store, job: str) -> set[str]:
    """Keys of the rows that were drawn for a job before.

    Raises:
        SinkError: a file of the review folder cannot be read.
    """
    keys: set[str] = set()
    for name in store.names(f"{columns.DRAWS}/{job}"):
        if name.endswith(".parquet"):
            with store.open(name) as stream:
                keys.update(pq.read_table(stream, columns=[columns.KEY]).column(0).to_pylist())
    return keys


def _mark(entry: Entry) -> dict[str, Any]:
    return {"slot": entry.slot, "run_id": entry.run_id, "time": entry.time, "shard": entry.shard}
