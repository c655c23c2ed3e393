"""Which adapter computes each row of a forward pass: set before the pass, read by the layers."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby

import torch


@dataclass(frozen=True)
class Chosen:
    """The adapters of one forward pass.

    Attributes:
        one: the adapter of all rows, or None if they differ.
        adapters: the adapter of each row; empty if all rows have one.
        rows: the same on the device, int64 `(batch,)`.
        lengths: tokens of each row, for a batch without padding; None for a padded one.
    """

    one: int | None
    adapters: tuple[int, ...]
    rows: torch.Tensor
    lengths: tuple[int, ...] | None = None

    def of(self, first: int) -> torch.Tensor:
        """The adapter of each entry of a tensor's first dimension.

        Args:
            first: length of the dimension: rows, or a multiple of them (the beams of a row are beside each other), or
                the tokens of a batch without padding.

        Raises:
            ValueError: the tensor's first dimension is not that of rows.
        """
        if first == len(self.adapters):
            return self.rows
        counts = torch.tensor(self._counts(first), device=self.rows.device)
        return self.rows.repeat_interleave(counts, output_size=first)

    def runs(self, first: int) -> Iterator[tuple[int, slice]]:
        """Neighbouring entries of a tensor's first dimension with the same adapter: the adapter, their places."""
        start = 0
        for adapter, run in groupby(zip(self.adapters, self._counts(first), strict=True), key=lambda pair: pair[0]):
            count = sum(entries for _, entries in run)
            yield adapter, slice(start, start + count)
            start += count

    def _counts(self, first: int) -> Sequence[int]:
        """Entries of each row in a tensor's first dimension."""
        count = len(self.adapters)
        if self.lengths is not None and first == sum(self.lengths):
            return self.lengths
        if count == 0 or first % count:
            raise ValueError(f"a layer got {first} entries for {count} rows, so their adapters are not known")
        return [first // count] * count


class Selection:
    """The adapters of the current forward pass, shared by all layers of a network.

    Outside of its context managers all rows have adapter 0. Each thread has its own, because threads may share a
    network.

    Args:
        device: where the layers are.
    """

    def __init__(self, device: torch.device | None = None):
        self.device = device or torch.device("cpu")
        self._local = threading.local()

    @property
    def now(self) -> Chosen:
        """The adapters of the forward pass."""
        return getattr(self._local, "chosen", None) or Chosen(0, (), torch.zeros(0, dtype=torch.int64))

    @contextmanager
    def rows(self, adapters: Sequence[int]) -> Iterator[None]:
        """Compute each row with its own adapter.

        Args:
            adapters: number of the adapter of each row of the batch.
        """
        one = adapters[0] if len(set(adapters)) == 1 else None
        own = () if one is not None else tuple(adapters)
        with self._set(Chosen(one, own, torch.tensor(own, dtype=torch.int64, device=self.device))):
            yield

    @contextmanager
    def one(self, adapter: int) -> Iterator[None]:
        """Compute all rows with one adapter."""
        with self.rows([adapter]):
            yield

    @contextmanager
    def unpadded(self, lengths: tuple[int, ...]) -> Iterator[None]:
        """Rows follow each other without padding.

        Args:
            lengths: tokens of each row.
        """
        with self._set(replace(self.now, lengths=lengths)):
            yield

    @contextmanager
    def _set(self, chosen: Chosen) -> Iterator[None]:
        before = getattr(self._local, "chosen", None)
        self._local.chosen = chosen
        try:
            yield
        finally:
            self._local.chosen = before

    def __deepcopy__(self, memo: object) -> Selection:
        return self
