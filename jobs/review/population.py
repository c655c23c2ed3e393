"""The rows of a run that can be drawn: one for each text that has a result and was not drawn before."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.evaluation.calibration import scores_of
from jobs.plan import Plan
from jobs.plan.task import TaskPlan
from jobs.sink import Entry
from jobs.sink import rows as rows_of
from jobs.sink.folder import FolderSink
from jobs.source.files import partition
from jobs.training import identity
from transforms import template
from transforms.options import column_of, with_fields

BATCH_ROWS = 16_384


@dataclass(frozen=True)
class Population:
    """Rows in part files, one for each text.

    Attributes:
        entries: the shards that the rows are in.
        keys: identity of each text.
        scores: the model's score of each row, float64 `(rows,)`; NaN where the task gives none.
        parts: index in `entries` of each row's shard, int64 `(rows,)`.
        rows: row in its part file, int64 `(rows,)`.
    """

    entries: Sequence[Entry]
    keys: Sequence[str]
    scores: np.ndarray
    parts: np.ndarray
    rows: np.ndarray


def of(plan: Plan, sink: FolderSink, entries: Sequence[Entry], task: TaskPlan, drawn: Collection[str]) -> Population:
    """The rows of some shards; costs some 20 us a row for the identity of its text.

    Args:
        plan: the run.
        sink: where the part files are, staged or published.
        entries: the shards.
        task: the task whose results are reviewed.
        drawn: keys of rows that were drawn before.
    """
    seen = set(drawn)
    keys: list[str] = []
    scores, parts, rows = [np.zeros(0)], [np.zeros(0, int)], [np.zeros(0, int)]
    names = plan.schema.names
    columns = [*(column_of(column, names) for column in task.spec.reads), task.spec.into]
    for place, entry in enumerate(entries):
        start = 0
        for batch in _batches(plan, sink, entry, list(dict.fromkeys(columns))):
            values, taken = batch.column(task.spec.into), []
            for row, (text, valid) in enumerate(zip(texts(task, batch), values.is_valid().to_pylist(), strict=True)):
                if text is None or not valid or (key := identity.key(text)) in seen:
                    continue
                seen.add(key)
                keys.append(key)
                taken.append(row)
            found = np.array(taken, int)
            scores.append(scores_of(values)[found])
            parts.append(np.full(len(found), place))
            rows.append(found + start)
            start += len(batch)
    return Population(entries, keys, *(np.concatenate(each) for each in (scores, parts, rows)))


def take(plan: Plan, sink: FolderSink, population: Population, indices: Sequence[int] | np.ndarray) -> pa.Table:
    """Some rows of a population with all columns of their part files and of their partition folders, in this order."""
    chosen = np.asarray(indices, int)
    tables, order = [], []
    for place in np.unique(population.parts[chosen]):
        mine = chosen[population.parts[chosen] == place]
        tables.append(_rows(plan, sink, population.entries[place], population.rows[mine]))
        order.extend(mine)
    if not tables:
        return _with_partition(plan, "", plan.schema.empty_table())
    position = {index: place for place, index in enumerate(order)}
    return pa.concat_tables(tables).take(pa.array([position[index] for index in chosen], pa.int64()))


def texts(task: TaskPlan, rows: pa.RecordBatch | pa.Table) -> list[str | None]:
    """What the model reads in each row: its text column, or its prompt with the columns filled in; None without."""
    options = task.spec.options
    prompt = getattr(options, "prompt", None)
    parts = ["", options.column, ""] if prompt is None else template.parse(prompt)
    if isinstance(rows, pa.Table):
        rows = rows.combine_chunks().to_batches()[0] if len(rows) else pa.RecordBatch.from_pylist([], rows.schema)
    rows = with_fields(rows, parts[1::2])
    values = zip(*(rows.column(name).to_pylist() for name in parts[1::2]), strict=True)
    return [_filled(parts, row) if all(row) else None for row in values]


def _filled(parts: Sequence[str], values: Sequence[Any]) -> str:
    return "".join([parts[0], *(f"{value}{after}" for value, after in zip(values, parts[2::2], strict=True))])


def _batches(plan: Plan, sink: FolderSink, entry: Entry, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    there = [name for name in columns if name in plan.schema.names]
    for batch in rows_of.batches(sink, entry, there, BATCH_ROWS):
        yield _with_partition(plan, entry.key, batch)


def _rows(plan: Plan, sink: FolderSink, entry: Entry, rows: np.ndarray) -> pa.Table:
    """Some rows of an entry; of a part file only the row groups that have any are read."""
    if entry.in_table:
        table = pa.Table.from_batches(list(rows_of.batches(sink, entry))).take(pa.array(rows, pa.int64()))
        return _with_partition(plan, entry.key, table.replace_schema_metadata(None))
    with sink.open(entry) as stream:
        file = pq.ParquetFile(stream)
        sizes = np.array([file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)])
        ends = np.cumsum(sizes)
        groups = np.searchsorted(ends, rows, side="right")
        used = np.unique(groups)
        table = file.read_row_groups(used.tolist())
    before = np.zeros(len(sizes), int)
    before[used] = np.cumsum(sizes[used]) - sizes[used]
    within = rows - (ends - sizes)[groups] + before[groups]
    table = table.take(pa.array(within, pa.int64())).replace_schema_metadata(None)
    return _with_partition(plan, entry.key, table)


def _with_partition(plan: Plan, key: str, rows: Any) -> Any:
    """Rows of a file with the values that only the names of its folders have."""
    found = partition(key)
    for name in plan.source.partition_columns:
        if name not in rows.schema.names:
            rows = rows.append_column(name, pa.array([found.get(name)] * len(rows), pa.string()))
    return rows
