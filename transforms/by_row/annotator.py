"""A task whose rows are computed together, each by the adapter that its row names."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch

from transforms import heads
from transforms.annotate import Gathered, Work, annotate_rows
from transforms.by_row.loading import Adapters
from transforms.contract import Annotation, Annotator, Failure, Task
from transforms.generation.decode import Generations
from transforms.generation.request import Request
from transforms.generation.writer import write
from transforms.model import Model

# The key of rows whose own key is not in the map, or null.
DEFAULT = "default"


@dataclass(frozen=True)
class Owned:
    """A row of one of the tasks that are computed together: its number among all of them, and its adapter."""

    index: int
    adapter: int
    row: Any


@dataclass(frozen=True)
class Unit:
    """A sequence and its adapter."""

    adapter: int
    sequence: Any


class RowAnnotator:
    """Rows and the keys of their adapters in, one value for each row out.

    Args:
        task: the task.
        options: its options.
        model: a model with `adapters`.
        max_tokens: the most tokens of a batch, or None.
        column: the column with the keys.
        keys: key -> number of its adapter; `default` is for all other rows.
    """

    def __init__(
        self, task: Task, options: Any, model: Model, max_tokens: int | None, column: str, keys: Mapping[str, int]
    ):
        assert model.adapters is not None
        self.model, self.adapters = model, model.adapters
        self.column, self.keys = column, dict(keys)
        views: dict[Any, Annotator] = {}
        self.annotators: list[Any] = []
        for number in range(len(self.adapters.configs)):
            view = of_adapter(model, self.adapters, number)
            head = (tuple(heads.labels(view.config)), view.config.problem_type)
            if head not in views:
                with self.adapters.selection.one(number):
                    views[head] = task.load(options, view, max_tokens)
            self.annotators.append(views[head])
        self.widths = [len(heads.labels(config)) for config in self.adapters.configs]
        # Outputs of heads of several sizes are padded to the largest.
        self.cuts = len(set(self.widths)) > 1 and "Classification" in type(model.network).__name__
        self.mixes = self.adapters.mixes and all(hasattr(each, "steps") for each in self.annotators)

    @property
    def max_tokens(self) -> int:
        """The most tokens of a batch, padding included."""
        most: int = self.annotators[0].max_tokens
        return most

    @max_tokens.setter
    def max_tokens(self, most: int) -> None:
        for annotator in self.annotators:
            annotator.max_tokens = most

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Annotate every row with its own adapter; a row without one fails."""
        numbers, failures = self.numbers(batch.column(self.column))
        places = {number: np.flatnonzero(numbers == number) for number in np.unique(numbers[numbers >= 0]).tolist()}
        parts = {number: batch.take(pa.array(rows)) for number, rows in places.items()}
        if not parts:
            parts, places = {0: batch.slice(0, 0)}, {0: np.zeros(0, dtype=np.int64)}
        found, tokens, slots = self.together(parts) if self.mixes and len(parts) > 1 else self.in_turn(parts)
        moved = [
            replace(failure, row=int(places[number][failure.row]))
            for number, annotation in found.items()
            for failure in annotation.failures
        ]
        values = pa.concat_arrays([annotation.values for annotation in found.values()])
        # The place of each row among the values; null for a row without an adapter.
        at = np.full(len(batch), -1)
        at[np.concatenate([places[number] for number in found])] = np.arange(len(values))
        values = values.take(pa.array(at, mask=at < 0))
        failures = sorted([*failures, *moved], key=lambda failure: failure.row)
        return Annotation(values, failures, tokens, slots, cut_at=_cut_at(found, places, len(batch)))

    def numbers(self, keys: pa.Array) -> tuple[np.ndarray, list[Failure]]:
        """The number of each row's adapter, -1 for a row without one, and those rows as failures."""
        keys = keys.cast(pa.string())
        known = pa.array(list(self.keys), pa.string())
        found = pc.fill_null(pc.index_in(keys, known), -1).to_numpy(zero_copy_only=False)
        of_key = np.array([*self.keys.values(), self.keys.get(DEFAULT, -1)])
        numbers = of_key[found]
        texts = keys.to_pylist()
        return numbers, [self.failure(int(row), texts[row]) for row in np.flatnonzero(numbers < 0)]

    def failure(self, row: int, key: str | None) -> Failure:
        """A row without an adapter."""
        names = sorted(self.keys)
        known = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        what = "is null" if key is None else f"is {key[:80]!r}"
        return Failure(
            row,
            "UnknownAdapter",
            f"{self.column} {what}, which has no adapter; adapters: {known}; add the key or a default to adapters",
        )

    def in_turn(self, parts: Mapping[int, pa.RecordBatch]) -> tuple[dict[int, Annotation], int, int]:
        """The rows of one adapter after those of another."""
        found = {}
        for number, part in parts.items():
            with self.adapters.selection.one(number):
                found[number] = self.annotators[number](part)
        return found, sum(a.tokens for a in found.values()), sum(a.padded_tokens for a in found.values())

    def together(self, parts: Mapping[int, pa.RecordBatch]) -> tuple[dict[int, Annotation], int, int]:
        """The rows of all adapters in the same batches."""
        steps = {number: self.annotators[number].steps(part) for number, part in parts.items()}
        done: dict[int, Annotation] = {}
        sent: dict[int, Any] = dict.fromkeys(steps)
        tokens = slots = 0
        while sent:
            asked: dict[int, Any] = {}
            for number, result in sent.items():
                try:
                    asked[number] = steps[number].send(result)
                except StopIteration as end:
                    done[number] = end.value
            if not asked:
                break
            writes = isinstance(next(iter(asked.values())), list)
            sent, more, positions = (self.written if writes else self.gathered)(asked)
            tokens, slots = tokens + more, slots + positions
        return done, tokens, slots

    def gathered(self, asked: Mapping[int, Work]) -> tuple[dict[int, Gathered], int, int]:
        """The work of several adapters, computed in the same batches; results by adapter."""
        first = self.annotators[next(iter(asked))]
        work = next(iter(asked.values()))
        owners = [(number, row) for number, each in asked.items() for row in each.rows]
        rows = [Owned(index, number, row) for index, (number, row) in enumerate(owners)]

        def tokenise(rows: list[Owned]) -> list[tuple[Owned, Any]]:
            pairs: list[tuple[Owned, Any]] = []
            # Adapters with the same labels share an annotator, which tokenises all their rows at once.
            groups: dict[int, list[Owned]] = {}
            for owned in rows:
                groups.setdefault(id(self.annotators[owned.adapter]), []).append(owned)
            for group in groups.values():
                owner = {id(owned.row): owned for owned in group}
                for row, sequence in asked[group[0].adapter].tokenise([owned.row for owned in group]):
                    owned = owner[id(row)]
                    failed = isinstance(sequence, Exception)
                    pairs.append((owned, sequence if failed else Unit(owned.adapter, sequence)))
            return pairs

        def compute(units: list[Unit]) -> torch.Tensor:
            # Rows of one adapter side by side, for layers that compute one adapter after another.
            order = sorted(range(len(units)), key=lambda i: units[i].adapter)
            with self.adapters.selection.rows([units[i].adapter for i in order]):
                output: torch.Tensor = work.compute([units[i].sequence for i in order])
            return output[torch.from_numpy(np.argsort(order)).to(output.device)]

        pieces = min(each.piece_rows for each in asked.values())
        outputs, failures, tokens, slots = annotate_rows(
            rows, tokenise, lambda unit: work.length(unit.sequence), compute, first.max_tokens, first.caps, pieces
        )
        found: dict[int, Gathered] = {number: ({}, [], 0, 0) for number in asked}
        for index, pairs in outputs.items():
            owned = rows[index]
            found[owned.adapter][0][owned.row.index] = [(u.sequence, self.own(raw, u.adapter)) for u, raw in pairs]
        for failure in failures:
            owned = rows[failure.row]
            found[owned.adapter][1].append(replace(failure, row=owned.row.index))
        return found, tokens, slots

    def own(self, raw: np.ndarray, adapter: int) -> np.ndarray:
        """An output without the padding for heads with more labels."""
        return raw[..., : self.widths[adapter]] if self.cuts else raw

    def written(self, asked: Mapping[int, list[Request]]) -> tuple[dict[int, Generations], int, int]:
        """The texts of several adapters, generated in the same batches; results by adapter."""
        first = self.annotators[next(iter(asked))]
        requests = [replace(request, adapter=number) for number, each in asked.items() for request in each]
        result = write(self.model, requests, first.how, first.max_tokens, first.caps)
        found, start = {}, 0
        for number, each in asked.items():
            failures = {i - start: e for i, e in result.failures.items() if start <= i < start + len(each)}
            found[number] = Generations(result.outputs[start : start + len(each)], failures, 0, 0)
            start += len(each)
        return found, result.tokens, result.padded_tokens


def _cut_at(
    found: Mapping[int, Annotation], places: Mapping[int, np.ndarray], rows: int
) -> np.ndarray[Any, np.dtype[np.int32]] | None:
    """Where the input of each row was cut, by adapter -> in the order of the rows; None if the task does not say."""
    whole = np.zeros(rows, np.int32)
    for number, annotation in found.items():
        if annotation.cut_at is None:
            return None
        whole[places[number]] = annotation.cut_at
    return whole


def of_adapter(model: Model, adapters: Adapters, number: int) -> Model:
    """A model with the labels of one of its adapters; the network is the same."""
    config = copy.copy(model.config)
    own = adapters.configs[number]
    config.id2label, config.label2id, config.problem_type = own.id2label, own.label2id, own.problem_type
    return replace(model, config=config, adapters=None)
