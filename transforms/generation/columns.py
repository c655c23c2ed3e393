"""Key-value cache of a group of rows of an encoder-decoder; rows can be added and removed while others are decoded.

All rows write the keys and values of their next token to the same column, `end`; `start` is the first column of each
row, and a mask hides the columns before it. So rows at different lengths share one batch, and removing a finished row
costs only moving one other row into its slot. Relative positions (T5's bias, rotary embeddings) stay right, because
only the distance between columns counts; absolute positions are given by `positions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

# Smallest number of columns; the cache doubles when the rows in flight need more.
COLUMNS = 64

Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Prefilled:
    """Rows that the encoder has read and that wait for a slot.

    Attributes:
        own: keys and values of each decoder layer for the decoder's tokens, `(rows, heads, tokens, width)`.
        cross: keys and values of each decoder layer for the source, padded on the right.
        sources: number of source tokens of each row.
    """

    own: list[Layer]
    cross: list[Layer]
    sources: np.ndarray


class Columns:
    """The cache of up to `capacity` rows in flight, always in the first `rows` slots.

    Most methods need at least one row.

    Args:
        capacity: maximum number of rows.
    """

    def __init__(self, capacity: int):
        self.capacity = capacity
        self.rows = 0
        self.end = 0
        self.start = np.zeros(capacity, dtype=np.int64)
        self.sources = np.zeros(capacity, dtype=np.int64)
        self.own: list[list[torch.Tensor]] = []
        self.cross: list[list[torch.Tensor]] = []

    @property
    def first(self) -> int:
        """The first column that is in use by a row."""
        return int(self.start[: self.rows].min())

    def admit(self, waiting: Prefilled, picks: Sequence[int]) -> None:
        """Copy the waiting rows `picks` into the next free slots, in that order."""
        width = waiting.own[0][0].shape[2]
        self._reserve(waiting)
        new = slice(self.rows, self.rows + len(picks))
        for buffers, layer in zip(self.own, waiting.own, strict=True):
            for buffer, tensor in zip(buffers, layer, strict=True):
                buffer[new, :, self.end - width : self.end] = tensor[list(picks)]
        for buffers, layer in zip(self.cross, waiting.cross, strict=True):
            for buffer, tensor in zip(buffers, layer, strict=True):
                buffer[new, :, : tensor.shape[2]] = tensor[list(picks)]
        self.start[new] = self.end - width
        self.sources[new] = waiting.sources[picks]
        self.rows += len(picks)

    def resize(self, capacity: int) -> None:
        """Change the number of slots; unused columns are dropped."""
        for numbers in ("start", "sources"):
            grown = np.zeros(capacity, dtype=np.int64)
            grown[: self.rows] = getattr(self, numbers)[: self.rows]
            setattr(self, numbers, grown)
        self.capacity = capacity
        every = slice(0, self.width)
        self.cross = [[self._moved(buffer, every, 0, every.stop) for buffer in layer] for layer in self.cross]
        self._move_columns(0, 1)

    def evict(self, gone: Sequence[int]) -> list[tuple[int, int]]:
        """Free some slots; the last rows move into them.

        Returns:
            (new slot, old slot) of every row that moved.
        """
        left = self.rows - len(gone)
        leaving = set(gone)
        holes = [slot for slot in gone if slot < left]
        tails = [slot for slot in range(left, self.rows) if slot not in leaving]
        if holes:
            columns, width = slice(self.first, self.end), int(self.sources[tails].max(initial=0))
            for buffers in self.own:
                for buffer in buffers:
                    buffer[holes, :, columns] = buffer[tails, :, columns]
            for buffers in self.cross:
                for buffer in buffers:
                    buffer[holes, :, :width] = buffer[tails, :, :width]
            self.start[holes], self.sources[holes] = self.start[tails], self.sources[tails]
        self.rows = left
        return list(zip(holes, tails, strict=True))

    def widen(self) -> None:
        """Make room for one more column. The caller fills it and adds one to `end`."""
        if self.end == self.own[0][0].shape[2]:
            self._move_columns(0, 1)

    @property
    def width(self) -> int:
        """Tokens of the longest source in flight."""
        return int(self.sources[: self.rows].max())

    @property
    def device(self) -> torch.device:
        """The device of the cache."""
        return self.own[0][0].device

    def positions(self) -> np.ndarray:
        """Position of each row's next token."""
        return self.end - self.start[: self.rows]

    def mask(self) -> np.ndarray | None:
        """Which columns each row sees, including its next token's: bool `(rows, columns)`; None if all rows see all."""
        start = self.start[: self.rows, None]
        return None if (start == self.first).all() else np.arange(self.first, self.end + 1) >= start

    def source_mask(self) -> np.ndarray | None:
        """Which source tokens each row sees: bool `(rows, source)`; None if all rows see all."""
        sources = self.sources[: self.rows, None]
        return None if (sources == self.width).all() else np.arange(self.width) < sources

    def _reserve(self, waiting: Prefilled) -> None:
        """Make the buffers large enough for the waiting rows."""
        width = waiting.own[0][0].shape[2]
        if not self.own:
            self.end = width
            columns = max(COLUMNS, 2 * width)
            self.own = [[self._buffer(tensor, columns) for tensor in layer] for layer in waiting.own]
            self.cross = [[self._buffer(tensor, tensor.shape[2]) for tensor in layer] for layer in waiting.cross]
        if self.end < width:
            self._move_columns(width - (self.end - self.first), 1)
        if (wide := waiting.cross[0][0].shape[2]) > self.cross[0][0].shape[2]:
            every = slice(0, self.cross[0][0].shape[2])
            self.cross = [[self._moved(buffer, every, 0, wide) for buffer in layer] for layer in self.cross]

    def _move_columns(self, lead: int, more: int) -> None:
        """Copy the columns in use to new buffers, with `lead` free columns before them and at least `more` after."""
        used = slice(self.first, self.end)
        needed = lead + used.stop - used.start + more
        columns = max(COLUMNS, 2 * needed)
        self.own = [[self._moved(buffer, used, lead, columns) for buffer in layer] for layer in self.own]
        self.start[: self.rows] += lead - used.start
        self.end = lead + used.stop - used.start

    def _buffer(self, like: torch.Tensor, columns: int) -> torch.Tensor:
        # Zeros, because attention multiplies masked values by 0, and a leftover nan would stay nan.
        return like.new_zeros((self.capacity, like.shape[1], columns, like.shape[3]))

    def _moved(self, buffer: torch.Tensor, used: slice, lead: int, columns: int) -> torch.Tensor:
        """A new buffer with `columns` columns: the `used` columns of `buffer`, copied to column `lead` and after."""
        moved = self._buffer(buffer, columns)
        width = used.stop - used.start
        moved[: self.rows, :, lead : lead + width] = buffer[: self.rows, :, used]
        return moved
