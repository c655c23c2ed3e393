"""Fewer rows at once when memory is too small, with as many rows in each step, so that the losses stay the same.

accelerate's `find_executable_batch_size` and the library's `auto_find_batch_size` start again in the same process,
which still holds memory; each process would decide on its own; and the step would have fewer rows, so that another
model is trained. Here the processes end, and all start again from the last checkpoint with half the rows at once.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

SENTENCE = (
    "the training does not fit into memory, even one row at a time; choose a smaller base, or shorter texts"
    " (training.max_length for task generate)"
)


class OutOfMemory(Exception):
    """Memory was too small.

    Attributes:
        smaller: whether fewer rows at once are possible.
    """

    def __init__(self, smaller: bool):
        super().__init__(SENTENCE)
        self.smaller = smaller


def is_too_small(error: Exception) -> bool:
    """Whether an error says that memory was too small."""
    import torch
    from accelerate.utils.memory import should_reduce_batch_size

    if isinstance(error, MemoryError | torch.OutOfMemoryError) or should_reduce_batch_size(error):
        return True
    return isinstance(error, RuntimeError) and any(
        said in str(error).lower() for said in ("can't allocate memory", "out of memory", "cublas_status_alloc_failed")
    )


@contextlib.contextmanager
def watched(arguments: Any) -> Iterator[None]:
    """Say of an error whether fewer rows at once are possible.

    Args:
        arguments: of the trainer.

    Raises:
        OutOfMemory: in place of the libraries' errors.
    """
    try:
        yield
    except Exception as error:
        if not is_too_small(error):
            raise
        most = max(arguments.per_device_train_batch_size, arguments.per_device_eval_batch_size)
        raise OutOfMemory(most > 1) from error


def at_once(rows: int, accumulated: int, parts: int) -> tuple[int, int]:
    """Rows at once and batches in a step, with as many rows in the step.

    Args:
        rows: rows at once that the training file asks for, of one process.
        accumulated: batches in a step that it asks for.
        parts: into how many parts the rows are split at least.
    """
    limit = max(1, rows // parts)
    size = next(size for size in range(limit, 0, -1) if rows * accumulated % size == 0)
    return size, rows * accumulated // size
