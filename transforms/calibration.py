"""How large batches should be on this machine: a loaded task computes candidates in turn, of a job's own lengths.

Only what a batch computes is timed: the network and what the task does with its output on the device. Writers of text
have no such batches (their rows come and go), so they are not measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from transforms.annotate import Work
from transforms.batches import Caps, cut, is_out_of_memory
from transforms.by_row.annotator import RowAnnotator

# Token positions of a batch that are tried, by the kind of device, smallest first.
BUDGETS = {
    "cpu": (512, 1024, 2048, 4096, 8192),
    "mps": (2048, 4096, 8192, 16_384),
    "cuda": (8192, 16_384, 32_768, 65_536, 131_072),
}
# How much slower than the best a budget may be: the default stays within it, and so does a smaller one. Best times of
# the same budget differ by 1 to 2 % from one calibration to the next.
CLOSE = 1.03
# How much slower than the best a budget is to be left out: of the second round, of further ones. After two that are
# as slow as the latter, still larger (or smaller) ones are not tried.
LOST, SLOW = 1.3, 1.1
# Most rounds over the candidates; the best time of each counts, which is the one that the least disturbed.
ROUNDS = 5
# Sequences that a trial batch repeats: neighbours in length, so that it has the padding and the mask of a real one.
NEIGHBOURS = 8


@dataclass(frozen=True)
class Measured:
    """What a calibration has found.

    Attributes:
        budget: token positions of a batch, padding included.
        speeds: tokens a second with each budget that was tried, padding not counted.
        complete: whether larger budgets were tried too, or do not fit; otherwise there was no time for them.
        seconds: that it took.
    """

    budget: int
    speeds: dict[int, float]
    complete: bool
    seconds: float

    def gain(self, default: int) -> float:
        """How many times as fast as with the default budget; 1 if that was not tried."""
        return self.speeds[self.budget] / self.speeds.get(default, self.speeds[self.budget])


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


def measure(trial: Trial, default: int, chunk_rows: int, allowed: Callable[[float], float]) -> Measured | None:
    """The budget with which a task is fastest.

    Args:
        trial: the task.
        default: the budget that stays unless another is faster.
        chunk_rows: rows that a job sorts by length together.
        allowed: rows a second, as first measured -> seconds that the calibration may take.

    Returns:
        The budget; None if there is no time to compare two, or if all are the same batch.
    """
    slots: dict[int, int] = {}
    for budget in BUDGETS[trial.kind]:
        if trial.slots(budget) not in slots.values():
            slots[budget] = trial.slots(budget)
    if len(slots) < 2:
        return None
    start = max((budget for budget in slots if budget <= default), default=min(slots))
    # What is made when it is first needed, for the first time too.
    warm = trial.once(start)
    took = trial.once(start)
    seconds = allowed(slots[start] / took / trial.tokens_per_row)
    least = min(count for budget, count in slots.items() if budget != start)
    if seconds < 2 * (took + took / slots[start] * least):
        return None
    costs, complete, spent = explore(trial.once, slots, start, seconds)
    if len(costs) < 2:
        return None
    paid = {budget: cost * trial.padding(budget, chunk_rows) for budget, cost in costs.items()}
    best = choose(paid, start)
    speeds = {budget: 1 / cost for budget, cost in paid.items()}
    return Measured(best, speeds, complete, warm + took + spent)


def explore(
    once: Callable[[int], float], slots: Mapping[int, int], start: int, seconds: float
) -> tuple[dict[int, float], bool, float]:
    """Compute a batch of each candidate in turn, round after round: from the default to larger ones, then to smaller.

    A fast processor is where larger batches gain most (AMX: 1.4 times), and where they take least time to be tried.

    Args:
        once: budget -> seconds of one batch; raises an out-of-memory error if it does not fit.
        slots: budget -> token positions of its batch, smallest first.
        start: the budget to begin with.
        seconds: that all of this may take; two rounds of what is tried fit into them.

    Returns:
        Seconds of a position with each budget that was tried, the best of the rounds; whether there was time for all
        that could be better; the seconds spent.
    """
    best: dict[int, float] = {}
    spent, complete = 0.0, True

    def turn(budget: int) -> None:
        nonlocal spent
        took = once(budget)
        spent += took
        best[budget] = min(best.get(budget, float("inf")), took / slots[budget])

    def round_s(budgets: Sequence[int]) -> float:
        return sum(best[budget] * slots[budget] for budget in budgets)

    larger = [budget for budget in slots if budget >= start]
    smaller = [budget for budget in reversed(list(slots)) if budget < start]
    for direction in (larger, smaller):
        if direction is smaller and best[start] > SLOW * min(best.values()):
            # The larger the faster here.
            break
        slower = 0
        for budget in direction:
            if best and spent + round_s(list(best)) + 2 * min(best.values()) * slots[budget] > seconds:
                complete = False
                break
            try:
                turn(budget)
            except Exception as error:
                if not best or not is_out_of_memory(error):
                    raise
                break
            slower = slower + 1 if best[budget] > SLOW * min(best.values()) else 0
            if slower == 2:
                break
    for number in range(1, ROUNDS):
        worst = (LOST if number == 1 else SLOW) * min(best.values())
        alive = [budget for budget in best if best[budget] <= worst]
        if number > 1 and spent + round_s(alive) > seconds:
            break
        for budget in alive:
            turn(budget)
    return best, complete, spent


def choose(costs: Mapping[int, float], default: int) -> int:
    """The default if it is about as fast as the best budget, else the smallest that is.

    Args:
        costs: budget -> seconds of a token.
        default: the budget of a job that is not measured.
    """
    near = [budget for budget in sorted(costs) if costs[budget] <= CLOSE * min(costs.values())]
    return default if default in near else near[0]


def fastest_threads(
    trial: Trial, budget: int, candidates: Sequence[int], seconds: float, rounds: int = 3
) -> int | None:
    """The number of torch's threads with which a task is fastest: the fewest that are about as fast as the best.

    Args:
        trial: the task.
        budget: token positions of a batch.
        candidates: numbers of threads.
        seconds: about the most that it may take.
        rounds: most rounds over the candidates, after one that starts the threads.

    Returns:
        The number; None if there is no time to compare them.
    """
    rounds = min(rounds, int(seconds / (len(candidates) * trial.once(budget))) - 1)
    if rounds < 1:
        return None
    best = dict.fromkeys(sorted(candidates), float("inf"))
    for number in range(rounds + 1):
        for threads in best:
            with using(threads):
                took = trial.once(budget)
            if number:
                best[threads] = min(best[threads], took)
    return next(threads for threads, took in best.items() if took <= CLOSE * min(best.values()))


@contextmanager
def using(threads: int) -> Iterator[None]:
    """Let torch compute with so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _asked(annotator: Any, batch: pa.RecordBatch) -> Any:
    """The first thing that a task wants computed for a batch; None if nothing."""
    steps = annotator.steps(batch)
    try:
        return next(steps)
    except StopIteration:
        return None
    finally:
        steps.close()
