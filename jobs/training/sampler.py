"""The order of training rows: at random, those of a batch of similar length, so that little padding is computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler

# Rows are sorted by length within groups of this many batches, drawn at random.
GROUP_BATCHES = 50

# Lengths are compared after a change of up to this share, drawn at random, so that the rows of a batch are not the same
# in every epoch of a small corpus.
JITTER = 0.1


class LengthSampler(Sampler[int]):
    """Rows in the order of `by_length`; it depends on seed and epoch only.

    The library's sampler draws from the global generator, so that a continued training would see other batches. It
    also gives the batches of a group from long to short, and sorts a corpus of few batches in groups of four.

    Args:
        lengths: number of tokens of each row.
        batch_rows: rows of a batch.
        seed: of the training.
    """

    def __init__(self, lengths: Sequence[int], batch_rows: int, seed: int):
        self.lengths, self.batch_rows, self.seed, self.epoch = lengths, batch_rows, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order is given next."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed * 100_003 + self.epoch)
        return iter(by_length(self.lengths, self.batch_rows, generator))


def by_length(lengths: Sequence[int], batch_rows: int, generator: torch.Generator) -> list[int]:
    """Every row once: batches of rows of similar length in random order, the longest of them first.

    Memory that is too small for the longest row is found out at the start. A last batch with fewer rows comes last.

    Args:
        lengths: number of tokens of each row.
        batch_rows: rows of a batch.
        generator: of the random numbers.
    """
    order = torch.randperm(len(lengths), generator=generator).tolist()
    batches: list[list[int]] = []
    rest: list[int] = []
    for start in range(0, len(order), batch_rows * GROUP_BATCHES):
        group = order[start : start + batch_rows * GROUP_BATCHES]
        factors = 1 + JITTER * torch.rand(len(group), generator=generator, dtype=torch.float64)
        group = [
            row for _, row in sorted((lengths[row] * f, row) for row, f in zip(group, factors.tolist(), strict=True))
        ]
        if too_few := len(group) % batch_rows:
            # From a random place, so that it is not always the longest or the shortest rows that share a small batch.
            place = batch_rows * int(torch.randint(len(group) // batch_rows + 1, (1,), generator=generator))
            rest = group[place : place + too_few]
            del group[place : place + too_few]
        batches += [group[i : i + batch_rows] for i in range(0, len(group), batch_rows)]
    longest = max(batches, key=lambda batch: max(lengths[row] for row in batch), default=None)
    shuffled = [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]
    shuffled.sort(key=lambda batch: batch is not longest)
    return [row for batch in (*shuffled, rest) for row in batch]
