"""Batches sorted by length within a token budget; halved when memory runs out or to find the row that raises."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
import torch

T = TypeVar("T")

# Tokens per batch, padding included, where nothing was measured (`transforms.calibration`). On a CPU small batches stay
# in the processor's cache: in float32 1,024 is faster than 4,096 and 16,384; in int8, which spends less of its time on
# products, 512 is 9 % faster than 1,024. Where products take still less time, what a batch costs beside them counts:
# with AMX 2,048 is 1.4 times as fast as 1,024 in bfloat16, and 1.3 times as fast as 512 in int8. A GPU needs large
# ones.
MAX_TOKENS = {"cpu": 1024, "int8": 512, "fast": 2048, "cuda": 32768, "mps": 8192}

# Rows tokenised at a time: enough that sorting by length leaves little padding, few enough that tokenising overlaps
# with the forward pass.
PIECE_ROWS = 2048


def usual(kind: str, dtype: str) -> int:
    """Token positions of a batch where nothing was measured.

    Args:
        kind: of the device: cpu, cuda or mps.
        dtype: float32, bfloat16, float16 or int8.
    """
    if kind != "cpu" or dtype not in ("bfloat16", "int8"):
        return MAX_TOKENS[kind]
    if torch.cpu._is_amx_tile_supported():
        return MAX_TOKENS["fast"]
    return MAX_TOKENS["int8" if dtype == "int8" else "cpu"]


@dataclass(frozen=True)
class Outcome:
    """The result of computing many sequences.

    Attributes:
        outputs: one float32 array per sequence, in input order; None where the sequence failed.
        failures: sequence index -> the exception that it raised when computed alone.
        tokens: real tokens computed, special tokens included.
        padded_tokens: tokens computed, padding included.
    """

    outputs: list[np.ndarray | None]
    failures: dict[int, Exception]
    tokens: int
    padded_tokens: int


@dataclass
class Caps:
    """Limits of one batch.

    Attributes:
        rows_by_length: how many sequences of a length fit into memory, found from out-of-memory errors.
        one_length: whether all sequences of a batch must have the same length.
    """

    rows_by_length: dict[int, int] = field(default_factory=dict)
    one_length: bool = False

    def rows(self, length: int) -> int | None:
        """The most sequences of `length` tokens to compute at once; None if unknown."""
        return min((rows for known, rows in self.rows_by_length.items() if known <= length), default=None)

    def lower(self, length: int, rows: int) -> None:
        """Remember that only `rows` sequences of `length` tokens are safe."""
        self.rows_by_length[length] = min(rows, self.rows_by_length.get(length, rows))

    def learn(self, error: BaseException, length: int, rows: int) -> None:
        """After an out-of-memory error, try only half as many sequences of that length; other errors change nothing."""
        if is_out_of_memory(error):
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
            self.lower(length, max(1, rows // 2))


def cut(lengths: np.ndarray, max_tokens: int, caps: Caps | None = None) -> Iterator[np.ndarray]:
    """Divide sequences into batches, longest first, so that if memory is too small, this shows in the first batch.

    Args:
        lengths: int array, tokens of each sequence.
        max_tokens: the most tokens in a batch, padding included; a longer sequence is a batch of its own.
        caps: limits of a batch, read again for every batch.

    Yields:
        Indices into `lengths`, each exactly once.
    """
    order = np.argsort(-lengths, kind="stable")
    shortest_first = lengths[order[::-1]]
    start = 0
    while start < len(order):
        longest = max(1, int(lengths[order[start]]))
        rows = max(1, max_tokens // longest)
        if caps is not None and (cap := caps.rows(longest)) is not None:
            rows = min(rows, cap)
        if caps is not None and caps.one_length:
            shorter = np.searchsorted(shortest_first, lengths[order[start]])
            rows = min(rows, len(order) - start - int(shorter))
        yield order[start : start + rows]
        start += rows


def run(
    lengths: Sequence[int] | np.ndarray,
    compute: Callable[[np.ndarray], torch.Tensor],
    max_tokens: int,
    caps: Caps | None = None,
) -> Outcome:
    """Compute every sequence in batches within the token budget, and return the outputs in input order.

    Args:
        lengths: tokens of each sequence.
        compute: indices of one batch -> tensor `(batch, ...)` or `(batch, seq, ...)` on any device; the second
            dimension of a result with three or more dimensions is trimmed to each sequence's own length.
        max_tokens: the most tokens in a batch, padding included.
        caps: limits of a batch, kept by the caller from call to call.

    Returns:
        An `Outcome`; a sequence that fails even alone, or whose output is not finite, is in `failures`.

    Raises:
        torch.AcceleratorError: the device is lost; no later batch could be computed on it.
    """
    lengths = np.asarray(lengths, dtype=np.int64)
    caps = Caps() if caps is None else caps
    outputs: list[np.ndarray | None] = [None] * len(lengths)
    failures: dict[int, Exception] = {}
    slots = 0
    done: list[tuple[np.ndarray, torch.Tensor]] = []
    for batch in cut(lengths, max_tokens, caps):
        for part, result in corner(batch, compute, lengths, caps, failures):
            slots += len(part) * int(lengths[part].max())
            done.append((part, result))
    # Copy from the device once, after the last batch was queued, instead of waiting after each batch.
    for part, result in done:
        array = result.float().cpu().numpy()
        ragged = array.ndim >= 3
        finite = np.isfinite(array).reshape(len(part), -1).all(axis=1)
        for position, sequence in enumerate(part.tolist()):
            if finite[position]:
                outputs[sequence] = array[position, : lengths[sequence]] if ragged else array[position]
            else:
                failures[sequence] = FloatingPointError("the model's output is not finite (nan or inf)")
    return Outcome(outputs, failures, int(lengths.sum()), slots)


def corner(
    batch: np.ndarray,
    compute: Callable[[np.ndarray], T],
    lengths: np.ndarray,
    caps: Caps,
    failures: dict[int, Exception],
) -> Iterator[tuple[np.ndarray, T]]:
    """Compute a batch; on any error compute its halves, until the one sequence that raises it is found.

    Args:
        batch: indices of the sequences.
        compute: indices -> the result of a batch.
        lengths: tokens of each sequence.
        caps: lowered when memory runs out.
        failures: filled with the sequences that fail alone, and their exceptions.

    Yields:
        The parts that could be computed, with their results.

    Raises:
        torch.AcceleratorError: the device is lost.
    """
    try:
        result = compute(batch)
    except Exception as error:
        if device_is_lost(error):
            raise
        caps.learn(error, int(lengths[batch].max()), len(batch))
        if len(batch) == 1:
            failures[int(batch[0])] = error
            return
    else:
        yield batch, result
        return
    # Outside the except block, because inside it the traceback would keep the failed batch's tensors in memory.
    middle = len(batch) // 2
    yield from corner(batch[:middle], compute, lengths, caps, failures)
    yield from corner(batch[middle:], compute, lengths, caps, failures)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on the device or the host."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and "can't allocate memory" in str(error).lower()
    )


def device_is_lost(error: Exception) -> bool:
    """Whether an exception means that nothing more can be computed on the device."""
    lost = getattr(torch, "AcceleratorError", None)
    return lost is not None and isinstance(error, lost) and not is_out_of_memory(error)


def padded(sequences: Sequence[Sequence[int]], fill: int, left: bool = False) -> np.ndarray:
    """Token ids of one batch as an int64 array `(batch, seq)`, padded with `fill` on the right, or on the left."""
    width = max(map(len, sequences))
    array = np.full((len(sequences), width), fill, dtype=np.int64)
    for row, ids in enumerate(sequences):
        start = width - len(ids) if left else 0
        array[row, start : start + len(ids)] = ids
    return array


def ahead(items: Iterable[T]) -> Iterator[T]:
    """Iterate while another thread prepares the next item."""
    iterator = iter(items)
    end: Any = object()
    with ThreadPoolExecutor(1, thread_name_prefix="tokenise") as thread:
        upcoming = thread.submit(next, iterator, end)
        while (item := upcoming.result()) is not end:
            upcoming = thread.submit(next, iterator, end)
            yield item
