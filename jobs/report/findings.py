"""Statistics of a run, small enough to keep: labels, scores, text lengths, rejects, and a few rows to look at.

`jobs.report.observer` collects them while rows are written.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any

import numpy as np
from pydantic import TypeAdapter

# Labels and partition folders kept per column; rarer ones are counted together.
MAX_LABELS = 200
MAX_PARTITIONS = 24
OTHER = "(other)"
# Rows kept per shard, and per run.
EXAMPLES, EXAMPLES_A_SHARD = 6, 2
LEAST_CERTAIN = 6
FAILURES, FAILURES_A_SHARD = 50, 10

# Characters, by powers of two; the last bin is open.
LENGTH_EDGES = np.array([0, *(2**i for i in range(18)), np.inf])
# Probabilities in steps of 0.05; results of a regression can lie outside 0 to 1.
SCORE_EDGES = np.array([-np.inf, -100, -10, -1, *np.linspace(0, 1, 21), 2, 3, 4, 5, 10, 100, np.inf])


@dataclass(frozen=True)
class Findings:
    """Histograms of rows that were written, and a few of the rows. Rows are texts of the lake: they stay in the sink.

    Attributes:
        rows: rows looked at, rejected ones not included.
        parts: part files looked at.
        labels: new column -> label -> how often.
        scores: new column -> counts by SCORE_EDGES.
        inputs: new column -> rows that have something in all columns that its task reads.
        empty: new column -> those of them whose result is null or an empty text.
        lengths: texts by LENGTH_EDGES, those of the column that the first task reads.
        rejects: `task: error type` -> rows.
        partitions: new column -> partition folder such as `lang=en` -> label -> how often.
        examples: rows as `{file, text, found: {new column: value}}`.
        least_certain: new column -> rows with the lowest scores as `{file, text, found, score}`, lowest first.
        failures: the first rejected rows as `{file, row, column, task, reason, message}`; `row` counts from 1.
    """

    rows: int = 0
    parts: int = 0
    labels: dict[str, dict[str, int]] = field(default_factory=dict)
    scores: dict[str, list[int]] = field(default_factory=dict)
    inputs: dict[str, int] = field(default_factory=dict)
    empty: dict[str, int] = field(default_factory=dict)
    lengths: list[int] = field(default_factory=lambda: [0] * (len(LENGTH_EDGES) - 1))
    rejects: dict[str, int] = field(default_factory=dict)
    partitions: dict[str, dict[str, dict[str, int]]] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)
    least_certain: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    failures: list[dict[str, Any]] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Findings:
        """The inverse of `to_json`; unknown keys, from another version, are ignored.

        Raises:
            ValueError: a value is of another type.
        """
        return _FORM.validate_python(data)

    @classmethod
    def merge(cls, found: Iterable[Findings]) -> Findings:
        """The findings of several shards, or of several runs, as one."""
        every = list(found)
        examples = list(chain.from_iterable(each.examples for each in every))
        chosen = np.linspace(0, len(examples) - 1, min(EXAMPLES, len(examples))).astype(int)
        columns = dict.fromkeys(name for each in every for name in each.partitions)
        uncertain = dict.fromkeys(name for each in every for name in each.least_certain)
        return cls(
            rows=sum(each.rows for each in every),
            parts=sum(each.parts for each in every),
            labels={name: most_common(counts) for name, counts in _summed(each.labels for each in every).items()},
            scores=_added(each.scores for each in every),
            inputs=_totals(each.inputs for each in every),
            empty=_totals(each.empty for each in every),
            lengths=np.sum([cls().lengths, *(each.lengths for each in every)], axis=0, dtype=int).tolist(),
            rejects=dict(_summed({"": each.rejects} for each in every).get("", Counter()).most_common()),
            partitions={name: _partitions(each.partitions.get(name, {}) for each in every) for name in columns},
            examples=[examples[i] for i in chosen],
            least_certain={name: lowest(each.least_certain.get(name, []) for each in every) for name in uncertain},
            failures=list(chain.from_iterable(each.failures for each in every))[:FAILURES],
        )


_FORM = TypeAdapter(Findings)


def _summed(found: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, Counter[str]]:
    sums: dict[str, Counter[str]] = {}
    for each in found:
        for name, counts in each.items():
            sums.setdefault(name, Counter()).update(counts)
    return sums


def _totals(found: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in found:
        total.update(each)
    return dict(total)


def _added(found: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, list[int]]:
    sums: dict[str, np.ndarray] = {}
    for each in found:
        for name, counts in each.items():
            sums[name] = sums.get(name, 0) + np.array(counts)
    return {name: counts.tolist() for name, counts in sums.items()}


def _partitions(found: Iterable[Mapping[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """Labels by partition folder, the largest folders separately, the rest together."""
    sums = _summed(found)
    names = sorted(sums, key=lambda name: (name == OTHER, -sums[name].total(), name))
    kept = {name: most_common(sums[name]) for name in names[:MAX_PARTITIONS]}
    if rest := names[MAX_PARTITIONS:]:
        kept[OTHER] = most_common(sum((sums[name] for name in rest), Counter()))
    return kept


def lowest(found: Iterable[Iterable[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The rows with the lowest scores, lowest first."""
    return heapq.nsmallest(LEAST_CERTAIN, chain.from_iterable(found), key=lambda row: row["score"])


def most_common(counter: Counter[str]) -> dict[str, int]:
    """The most frequent labels; the others are counted together."""
    named = [(label, count) for label, count in counter.most_common() if label != OTHER]
    rest = counter[OTHER] + sum(count for _, count in named[MAX_LABELS:])
    return dict(named[:MAX_LABELS]) | ({OTHER: rest} if rest else {})
