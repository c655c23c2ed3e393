"""What a run found, as histograms small enough to keep for every run: labels, scores, text lengths, rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from jobs.plan import Plan
from jobs.sink.ledger import Entry
from jobs.store import Store
from transforms import task as tasks

# Part files looked at: enough for a distribution, few enough for any lake.
MAX_PARTS = 200
# Labels kept of a column; what is rarer counts together.
MAX_LABELS = 200
OTHER = "(other)"

# Characters, by powers of two; the last bin is open.
LENGTH_EDGES = np.array([0, *(2**i for i in range(18)), np.inf])
# Probabilities in steps of 0.05; what a regression gives falls outside of 0 to 1.
SCORE_EDGES = np.array([-np.inf, -100, -10, -1, *np.linspace(0, 1, 21), 2, 3, 4, 5, 10, 100, np.inf])


@dataclass(frozen=True)
class Findings:
    """Histograms of the rows that a run wrote.

    Attributes:
        rows: rows looked at.
        parts: part files looked at, at most MAX_PARTS, spread evenly over those that the run wrote.
        labels: new column -> label -> how often.
        scores: new column -> counts by SCORE_EDGES.
        lengths: texts by LENGTH_EDGES, those of the column that the first task reads.
        rejects: `task: error type` -> rows.
    """

    rows: int = 0
    parts: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, list[int]] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=lambda: [0] * (len(LENGTH_EDGES) - 1))
    rejects: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def look(plan: Plan, entries: Iterable[Entry]) -> Findings:
    """Read what a run wrote, only the columns that have labels, scores or the text.

    Args:
        plan: the run.
        entries: those of its shards.
    """
    store = Store(plan.spec.sink.path)
    own = list(entries)
    chosen = [own[i] for i in np.linspace(0, len(own) - 1, min(len(own), MAX_PARTS)).astype(int)]
    text = next((column for task in plan.tasks for column in tasks.columns_read(task.spec.options)), None)
    labels: dict[str, Counter[str]] = {}
    scores: dict[str, np.ndarray] = {}
    lengths = np.zeros(len(LENGTH_EDGES) - 1, int)
    rows = 0
    for batch in _batches(store, (entry.part for entry in chosen), [*(task.spec.into for task in plan.tasks), text]):
        rows += len(batch)
        for task in plan.tasks:
            if (found := _structs(batch[task.spec.into])) is None:
                continue
            if found.type.get_field_index("label") >= 0:
                counted = pc.value_counts(pc.struct_field(found, "label").drop_null())
                labels.setdefault(task.spec.into, Counter()).update(_counts(counted))
            if found.type.get_field_index("score") >= 0:
                values = pc.struct_field(found, "score").drop_null().to_numpy(zero_copy_only=False)
                counts = np.histogram(values, SCORE_EDGES)[0]
                scores[task.spec.into] = scores.get(task.spec.into, 0) + counts
        if text in batch.schema.names:
            lengths += np.histogram(pc.utf8_length(batch[text].cast(pa.string())).drop_null(), LENGTH_EDGES)[0]
    rejects: Counter[str] = Counter()
    rejected = (entry.rejected for entry in chosen if entry.rejected is not None)
    for batch in _batches(store, rejected, ["_task", "_error_type"]):
        reasons = pc.binary_join_element_wise(batch["_task"], batch["_error_type"], ": ", null_handling="skip")
        rejects.update(_counts(pc.value_counts(reasons)))
    return Findings(
        rows=rows,
        parts=len(chosen),
        labels={name: _most_common(counter) for name, counter in labels.items()},
        scores={name: counts.tolist() for name, counts in scores.items()},
        lengths=lengths.tolist(),
        rejects=dict(rejects.most_common()),
    )


def _batches(store: Store, names: Iterable[str], columns: Iterable[str | None]) -> Iterator[pa.RecordBatch]:
    wanted = {column for column in columns if column is not None}
    for name in names:
        with store.fs.open(store.path(name), "rb") as stream:
            file = pq.ParquetFile(stream)
            yield from file.iter_batches(columns=[name for name in file.schema_arrow.names if name in wanted])


def _structs(column: pa.Array) -> pa.Array | None:
    """The structs in a struct<…> column or in a list of such; None for any other column."""
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        column = pc.list_flatten(column)
    return column if pa.types.is_struct(column.type) else None


def _counts(value_counts: pa.StructArray) -> dict[str, int]:
    return {item["values"]: item["counts"] for item in value_counts.to_pylist()}


def _most_common(counter: Counter[str]) -> dict[str, int]:
    kept = dict(counter.most_common(MAX_LABELS))
    rest = counter.total() - sum(kept.values())
    return kept | ({OTHER: rest} if rest else {})
