"""Looks at rows as they are written, so that no part file is read again for the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.report.findings import (
    EXAMPLES_A_SHARD,
    FAILURES_A_SHARD,
    LEAST_CERTAIN,
    LENGTH_EDGES,
    SCORE_EDGES,
    Findings,
    lowest,
    most_common,
)
from jobs.report.shown import CHARACTERS, cut, shown
from jobs.source.files import partition
from jobs.spec import TaskSpec
from jobs.store import Store
from transforms.options import column_of, columns_read, with_fields

if TYPE_CHECKING:
    from jobs.plan import Plan
    from jobs.sink.entry import Entry

# Maximum number of part files read again if an older version wrote the ledger, which then has no findings.
MAX_PARTS = 200


class Observer:
    """Collects statistics of one shard while it is written.

    Args:
        specs: the job's tasks.
        key: the shard's source file, below the root of its source.
    """

    def __init__(self, specs: Sequence[TaskSpec], key: str):
        self.columns = [spec.into for spec in specs]
        self.reads = {spec.into: columns_read(spec.options) for spec in specs}
        self.text = next((column for columns in self.reads.values() for column in columns), None)
        self.key = key
        self.folder = "/".join(f"{name}={'null' if value is None else value}" for name, value in partition(key).items())
        self.rows = 0
        self.labels: dict[str, Counter[str]] = {}
        self.scores: dict[str, np.ndarray] = {}
        self.inputs: Counter[str] = Counter()
        self.empty: Counter[str] = Counter()
        self.lengths = np.zeros(len(LENGTH_EDGES) - 1, int)
        self.rejects: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []
        self.least_certain: dict[str, list[dict[str, Any]]] = {}
        self.failures: list[dict[str, Any]] = []

    def observe(self, batch: pa.RecordBatch, rejected: pa.RecordBatch | None = None) -> None:
        """Look at a batch that is being written.

        Args:
            batch: source columns and new columns.
            rejected: rows rejected with it, as in a rejected file.
        """
        self.rows += len(batch)
        for name in self.columns:
            if name in batch.schema.names:
                self._count(name, batch)
                self._count_empty(name, batch)
        if self.text in batch.schema.names and _is_text(batch.schema.field(self.text).type):
            lengths = pc.utf8_length(batch[self.text].cast(pa.string())).drop_null()
            self.lengths += np.histogram(lengths.to_numpy(zero_copy_only=False), LENGTH_EDGES)[0]
        if len(self.examples) < EXAMPLES_A_SHARD:
            self._exemplify(batch)
        if rejected is not None:
            self._reject(rejected)

    def findings(self) -> Findings:
        """The findings so far."""
        labels = {name: most_common(counts) for name, counts in self.labels.items()}
        return Findings(
            rows=self.rows,
            parts=1,
            labels=labels,
            scores={name: counts.tolist() for name, counts in self.scores.items()},
            inputs=dict(self.inputs),
            empty=dict(self.empty),
            lengths=self.lengths.tolist(),
            rejects=dict(self.rejects.most_common()),
            partitions={name: {self.folder: counts} for name, counts in labels.items()} if self.folder else {},
            examples=self.examples,
            least_certain=self.least_certain,
            failures=self.failures,
        )

    def _count(self, name: str, batch: pa.RecordBatch) -> None:
        rows = None
        found = batch[name]
        if pa.types.is_list(found.type) or pa.types.is_large_list(found.type):
            rows = pc.list_parent_indices(found).to_numpy()
            found = pc.list_flatten(found)
        if not pa.types.is_struct(found.type):
            return
        names = {each.name for each in found.type}
        if "label" in names:
            counted = pc.value_counts(pc.struct_field(found, "label").drop_null()).to_pylist()
            self.labels.setdefault(name, Counter()).update({str(each["values"]): each["counts"] for each in counted})
        if "score" in names:
            scores = pc.struct_field(found, "score").to_numpy(zero_copy_only=False)
            counts = np.histogram(scores[~np.isnan(scores)], SCORE_EDGES)[0]
            self.scores[name] = self.scores[name] + counts if name in self.scores else counts
            if rows is not None:
                # The score of a row is that of its least certain span, or of the best of its ranked labels.
                spans = "start" in names
                scores = _by_row(scores, rows, len(batch), lowest=spans)
            self._keep_least_certain(name, scores, batch)

    def _count_empty(self, name: str, batch: pa.RecordBatch) -> None:
        """Count the rows with an input, and those of them without a result."""
        # A partition column is in the folder only, and so has a value for every row.
        there = set(batch.schema.names)
        written = [column for column in self.reads[name] if column_of(column, there) in there]
        given = np.ones(len(batch), bool)
        for column in written:
            given &= ~_is_empty(with_fields(batch, [column]).column(column))
        self.inputs[name] += int(given.sum())
        self.empty[name] += int((given & _is_empty(batch.column(name))).sum())

    def _keep_least_certain(self, name: str, scores: np.ndarray, batch: pa.RecordBatch) -> None:
        """Keep the rows with the lowest of the scores, one per row, NaN where a row has none."""
        kept = self.least_certain.setdefault(name, [])
        below = kept[-1]["score"] if len(kept) == LEAST_CERTAIN else np.inf
        rows = np.flatnonzero(scores < below)
        if len(rows) > LEAST_CERTAIN:
            rows = rows[np.argpartition(scores[rows], LEAST_CERTAIN)[:LEAST_CERTAIN]]
        new = [self._row(batch, int(row), [name]) | {"score": round(float(scores[row]), 4)} for row in rows]
        self.least_certain[name] = lowest([kept, new])

    def _exemplify(self, batch: pa.RecordBatch) -> None:
        """Keep the first rows that have a text."""
        for row in range(min(len(batch), 20)):
            example = self._row(batch, row, self.columns)
            if len(self.examples) < EXAMPLES_A_SHARD and any([example["text"], *example["found"].values()]):
                self.examples.append(example)

    def _row(self, batch: pa.RecordBatch, row: int, columns: Sequence[str]) -> dict[str, Any]:
        text = batch[self.text][row].as_py() if self.text in batch.schema.names else None
        found = {name: shown(batch[name][row].as_py()) for name in columns if name in batch.schema.names}
        return {"file": self.key, "text": None if text is None else cut(str(text), CHARACTERS), "found": found}

    def _reject(self, rejected: pa.RecordBatch) -> None:
        # Added columns come last; they have a longer name if the source has a column of the same name.
        names = {
            name: _last(rejected.schema.names, name) for name in ("_task", "_error_type", "_message", "_row", "_column")
        }
        self.rejects.update(
            ": ".join(part for part in pair if part)
            for pair in zip(*(_values(rejected, names[key]) for key in ("_task", "_error_type")), strict=True)
        )
        for row in range(min(len(rejected), FAILURES_A_SHARD - len(self.failures))):
            about = {key: rejected[name][row].as_py() for key, name in names.items() if name in rejected.schema.names}
            self.failures.append(
                {
                    "file": self.key,
                    "row": about.get("_row"),
                    "column": about.get("_column"),
                    "task": about.get("_task"),
                    "reason": about.get("_error_type"),
                    "message": cut(str(about.get("_message") or ""), CHARACTERS),
                }
            )


def look(plan: Plan, entries: Iterable[Entry], store: Store) -> Findings:
    """The findings of a run: from its entries, or from the part file for an entry without findings.

    Args:
        plan: the run.
        entries: those of its shards.
        store: the sink's.
    """
    found, unseen = [], []
    for entry in entries:
        if entry.findings is not None:
            found.append(Findings.from_json(entry.findings))
        else:
            unseen.append(entry)
    chosen = np.linspace(0, len(unseen) - 1, min(len(unseen), MAX_PARTS)).astype(int)
    found += [_read_back(plan, unseen[i], store) for i in chosen]
    return Findings.merge(found)


def _read_back(plan: Plan, entry: Entry, store: Store) -> Findings:
    """The findings of an entry that an older version wrote."""
    observer = Observer([task.spec for task in plan.tasks], entry.key)
    wanted = {*observer.columns, observer.text}
    with store.fs.open(store.path(entry.part), "rb") as stream:
        file = pq.ParquetFile(stream)
        for batch in file.iter_batches(columns=[name for name in file.schema_arrow.names if name in wanted]):
            observer.observe(batch)
    if entry.rejected is not None:
        with store.fs.open(store.path(entry.rejected), "rb") as stream:
            for batch in pq.ParquetFile(stream).iter_batches():
                observer.observe(batch.slice(0, 0), batch)
    return observer.findings()


def _by_row(scores: np.ndarray, rows: np.ndarray, n: int, lowest: bool) -> np.ndarray:
    """One score per row, NaN for a row without any."""
    found = np.full(n, np.inf if lowest else -np.inf)
    (np.minimum if lowest else np.maximum).at(found, rows, scores)
    found[np.isinf(found)] = np.nan
    return found


def _values(batch: pa.RecordBatch, name: str | None) -> list[Any]:
    return [None] * len(batch) if name is None else batch[name].to_pylist()


def _last(names: Sequence[str], ending: str) -> str:
    return next((name for name in reversed(names) if name.endswith(ending)), ending)


def _is_empty(values: pa.Array) -> np.ndarray:
    """Which values are null or a text of no characters."""
    empty = pc.is_null(values)
    if _is_text(values.type):
        empty = pc.or_(empty, pc.fill_null(pc.equal(pc.utf8_length(values.cast(pa.large_string())), 0), False))
    return np.asarray(empty.to_numpy(zero_copy_only=False), bool)


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
