"""A task on a sample of a job's rows, ready to compute batches of any size and to say how long one takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from transforms.annotate import Work
from transforms.batches import Caps, cut
from transforms.by_row.annotator import RowAnnotator

# Sequences that a trial batch repeats: neighbours in length, so that it has the padding and the mask of a real one.
NEIGHBOURS = 8


@dataclass(frozen=True)
class Trial:
    """A task and some of a job's sequences, ready to compute batches.

    Attributes:
        lengths: tokens of each sequence of the sample.
        sequences: neighbours in length, of which a batch is made.
        longest: tokens of the longest of them.
        compute: sequences of one batch -> a tensor on the device of the network.
        caps: limits of a batch.
        rows: rows of the sample.
        kind: of the device: cpu, cuda or mps.
    """

    lengths: np.ndarray
    sequences: Sequence[Any]
    longest: int
    compute: Callable[[list[Any]], torch.Tensor]
    caps: Caps
    rows: int
    kind: str

    @classmethod
    def of(cls, annotator: Any, batch: pa.RecordBatch) -> Trial | None:
        """A task on a sample of its rows; None if it has no batches of sequences.

        Args:
            annotator: a loaded task.
            batch: the rows, with the columns that the task reads.
        """
        selected: Callable[[], AbstractContextManager[Any]] = nullcontext
        if isinstance(annotator, RowAnnotator):
            # Rows of one adapter: how large batches should be does not depend on which adapter a row has.
            adapters = annotator.adapters
            annotator = annotator.annotators[0]

            def selected() -> AbstractContextManager[Any]:
                return adapters.selection.one(0)

        if not hasattr(annotator, "steps") or not isinstance(work := _asked(annotator, batch), Work):
            return None
        with selected():
            pairs = work.tokenise(work.rows) if work.rows else []
        sequences = [sequence for _, sequence in pairs if not isinstance(sequence, Exception)]
        if not sequences:
            return None
        caps = annotator.caps
        lengths = np.array([work.length(sequence) for sequence in sequences], np.int64)
        order = np.argsort(lengths, kind="stable")
        # Half of the tokens are in sequences that are longer.
        middle = int(np.searchsorted(np.cumsum(lengths[order]), lengths.sum() / 2))
        near = 0 if caps.one_length else NEIGHBOURS // 2
        chosen = order[max(0, middle - near) : middle + near + 1]

        def compute(units: list[Any]) -> torch.Tensor:
            with selected():
                result: torch.Tensor = work.compute(units)
            return result

        units = [sequences[i] for i in chosen]
        return cls(
            lengths, units, max(1, int(lengths[chosen].max())), compute, caps, len(batch), annotator.model.device.type
        )

    @property
    def tokens_per_row(self) -> float:
        """Tokens that a row of the job takes; equal texts are computed once."""
        return max(1, int(self.lengths.sum())) / self.rows

    def rows_of(self, budget: int) -> int:
        """Sequences of a batch within a budget."""
        rows = max(1, budget // self.longest)
        cap = self.caps.rows(self.longest)
        return rows if cap is None else min(rows, cap)

    def slots(self, budget: int) -> int:
        """Token positions of such a batch."""
        return self.rows_of(budget) * self.longest

    def padding(self, budget: int, chunk_rows: int) -> float:
        """Positions computed for each token, if so many rows as a chunk has are sorted by length together."""
        every = np.repeat(self.lengths, max(1, chunk_rows // self.rows))
        positions = sum(len(batch) * int(every[batch].max()) for batch in cut(every, budget, self.caps))
        return positions / max(1, int(every.sum()))

    def once(self, budget: int) -> float:
        """Seconds of one batch.

        Raises:
            Exception: as the network raises it, such as an out-of-memory error.
        """
        units = [self.sequences[i % len(self.sequences)] for i in range(self.rows_of(budget))]
        # The time of one thread leaves out the time in which the processor computed something else.
        clock = time.thread_time if self.kind == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
        begun = clock()
        # As a job does; copying waits for the device.
        self.compute(units).float().cpu()
        return clock() - begun


def _asked(annotator: Any, batch: pa.RecordBatch) -> Any:
    """The first thing that a task wants computed for a batch; None if nothing."""
    steps = annotator.steps(batch)
    try:
        return next(steps)
    except StopIteration:
        return None
    finally:
        steps.close()
