"""A task with two models: a small one answers the rows that it is sure of, the others go on to the large one.

Some of the answers are checked: the large model computes these rows as well, its values are taken, and whoever watches
the agreement may stop the small model, from then on for all rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from transforms.contract import Annotation, Annotator, Asked

Bools = NDArray[np.bool_]
# Names of rows by their place in the source, `(rows,)`.
Places = NDArray[np.uint64]


class Comparing(Annotator, Protocol):
    """A loaded task whose results can be compared with those of another model."""

    def same(self, one: pa.Array, other: pa.Array) -> Bools:
        """Whether two columns of the task decide alike in each row."""
        ...


class Watch(Protocol):
    """Watches whether the models agree as often as they should."""

    @property
    def is_over(self) -> bool:
        """Whether the small model is not to be asked any more."""
        ...

    def see(self, rows: Places, agreed: Bools) -> None:
        """Take note of checked rows, by their names, and whether the models agree on each."""
        ...


@dataclass(frozen=True)
class Checks:
    """Which answers are checked: the same ones whenever the same rows are computed.

    A row is chosen by its place in the source, not by its text: the promise is about rows, so a text that a tenth of
    the rows have has to be a tenth of the checks. Chosen by their text, all of its rows would be checked or none.

    Attributes:
        seed: of the choice.
        share: how many of the answers, 0 to 1.
    """

    seed: str
    share: float

    def chosen(self, places: Places) -> Bools:
        """Whether each row is checked if it is answered."""
        # The finaliser of SplitMix64 (Steele et al. 2014, doi:10.1145/2714064.2660195), by which other seeds choose
        # other rows.
        mixed = places ^ np.uint64(int.from_bytes(self.seed.encode()[:8].ljust(8), "big"))
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
        mixed ^= mixed >> np.uint64(31)
        # 53 bits as a number from 0 to 1.
        return (mixed >> np.uint64(11)) * 2.0**-53 < self.share


class Cascade:
    """Rows in, values of the large model's type out.

    Args:
        small: the task with the small model; it must give confidences.
        large: the task with the large one.
        threshold: the least confidence of an answer.
        checks: which answers are checked.
        watch: told of every check.
    """

    def __init__(self, small: Annotator, large: Comparing, threshold: float, checks: Checks, watch: Watch):
        self.small, self.large = small, large
        self.threshold, self.checks, self.watch = threshold, checks, watch

    def __call__(self, batch: pa.RecordBatch, places: Places | None = None) -> Annotation:
        """Annotate the rows of a batch.

        Args:
            batch: the columns that the task reads.
            places: names of its rows by their place in the source; without them no answer is checked.
        """
        if self.watch.is_over:
            every = self.large(batch)
            return replace(every, asked=Asked(rows=_valid(every) + len(every.failures)))
        first = self.small(batch)
        assert first.confidence is not None
        failed = np.zeros(len(batch), bool)
        failed[[failure.row for failure in first.failures]] = True
        with np.errstate(invalid="ignore"):
            sure = first.confidence >= self.threshold
        checked = np.zeros(len(batch), bool) if places is None else sure & self.checks.chosen(places)
        # A row without a value has nothing to annotate, unless the small model failed on it.
        asks = np.flatnonzero((failed | first.values.is_valid().to_numpy(zero_copy_only=False)) & (~sure | checked))
        second = self.large(batch.take(pa.array(asks)))
        agreed = self._compare(first.values, second, asks, checked, places)
        at = np.arange(len(batch))
        at[asks] = len(batch) + np.arange(len(asks))
        return Annotation(
            pa.concat_arrays([first.values, second.values]).take(pa.array(at)),
            [replace(failure, row=int(asks[failure.row])) for failure in second.failures],
            first.tokens + second.tokens,
            first.padded_tokens + second.padded_tokens,
            asked=Asked(int(sure.sum() + (~sure)[asks].sum()), int(sure.sum()), int(checked.sum()), agreed),
            cut_at=_cut_at(first, second, asks),
        )

    def _compare(
        self, first: pa.Array, second: Annotation, asks: NDArray[np.int64], checked: Bools, names: Places | None
    ) -> int:
        """Tell the watch of the checked rows; returns on how many of them the models agree."""
        at = np.flatnonzero(checked[asks])
        if names is None or not len(at):
            return 0
        rows = asks[at]
        same = agreement(self.large, first.take(pa.array(rows)), second, at)
        self.watch.see(names[rows], same)
        return int(same.sum())


def agreement(
    large: Comparing, first: pa.Array, second: Annotation, places: NDArray[np.int64] | Sequence[int]
) -> Bools:
    """Whether two models agree on rows; not so where the large one failed.

    Args:
        large: compares.
        first: what the small model gave for these rows.
        second: what the large model gave for a batch.
        places: where these rows are in that batch.
    """
    broken = {failure.row for failure in second.failures}
    same = large.same(first, second.values.take(pa.array(places)))
    return same & np.array([place not in broken for place in places], bool)


def _cut_at(first: Annotation, second: Annotation, asks: NDArray[np.int64]) -> NDArray[np.int32] | None:
    """Where the model whose value is taken has cut its input; None if the task does not say."""
    if first.cut_at is None or second.cut_at is None:
        return None
    found = first.cut_at.copy()
    found[asks] = second.cut_at
    return found


def _valid(annotation: Annotation) -> int:
    return len(annotation.values) - annotation.values.null_count
