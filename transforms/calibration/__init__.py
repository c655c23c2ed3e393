"""How large batches should be on this machine: a loaded task computes candidates in turn, of a job's own lengths.

Only what a batch computes is timed: the network and what the task does with its output on the device. Writers of text
have no such batches (their rows come and go), so they are not measured.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from transforms.batches import is_out_of_memory
from transforms.calibration.trial import Trial

# Token positions of a batch that are tried, by the kind of device, smallest first.
BUDGETS = {
    "cpu": (512, 1024, 2048, 4096, 8192),
    "mps": (2048, 4096, 8192, 16_384),
    "cuda": (8192, 16_384, 32_768, 65_536, 131_072),
}
# How much slower than the best a budget may be: the default stays within it, and so does a smaller one. Best times of
# the same budget differ by 1 to 2 % from one calibration to the next.
CLOSE = 1.03
# How much faster than the best so far a budget must be for the next one in its direction to be tried: up to the best
# budget speed grows by more (AMX, from 1,024 to 2,048: by 40 % in bfloat16, 6 % in int8), and then it falls.
FASTER = 1.01
# How much slower than the best a budget is to be left out: the default, for smaller ones to be tried; any, of further
# rounds.
SLOW = 1.1
# How often a budget is computed, at least and at most. The best time counts, which is the one that the least disturbed;
# the first one includes what is made when it is first needed.
TIMES, ROUNDS = 2, 5


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
    began = [trial.once(start) for _ in range(TIMES)]
    position_s = min(began) / slots[start]
    seconds = allowed(1 / position_s / trial.tokens_per_row) - sum(began)
    if seconds < TIMES * position_s * min(count for budget, count in slots.items() if budget != start):
        return None
    costs, complete, spent = explore(trial.once, slots, start, position_s, seconds)
    if len(costs) < 2:
        return None
    paid = {budget: cost * trial.padding(budget, chunk_rows) for budget, cost in costs.items()}
    best = choose(paid, start)
    speeds = {budget: 1 / cost for budget, cost in paid.items()}
    return Measured(best, speeds, complete, sum(began) + spent)


def explore(
    once: Callable[[int], float], slots: Mapping[int, int], start: int, position_s: float, seconds: float
) -> tuple[dict[int, float], bool, float]:
    """Compute batches of each candidate: from the default to larger ones, as long as they are faster, then to smaller.

    A fast processor is where larger batches gain most (AMX: 1.4 times), and where they take least time to be tried.

    Args:
        once: budget -> seconds of one batch; raises an out-of-memory error if it does not fit.
        slots: budget -> token positions of its batch, smallest first.
        start: the budget to begin with.
        position_s: seconds of a position with it.
        seconds: that all of this may take; what is tried is computed twice within them.

    Returns:
        Seconds of a position with each budget that was tried, the best of all its batches; whether there was time for
        all that could be better; the seconds spent.
    """
    best = {start: position_s}
    spent = 0.0

    def turn(budget: int) -> None:
        nonlocal spent
        took = once(budget)
        spent += took
        best[budget] = min(best.get(budget, float("inf")), took / slots[budget])

    def climb(budgets: Sequence[int]) -> bool:
        """Try them until one is no faster than all before; whether there was time for that."""
        for budget in budgets:
            fastest = min(best.values())
            if spent + TIMES * fastest * slots[budget] > seconds:
                return False
            try:
                for _ in range(TIMES):
                    turn(budget)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                best.pop(budget, None)
                return True
            if best[budget] * FASTER > fastest:
                return True
        return True

    complete = climb([budget for budget in slots if budget > start])
    # Otherwise the larger the faster here.
    if best[start] <= SLOW * min(best.values()):
        complete = climb([budget for budget in reversed(list(slots)) if budget < start]) and complete
    for _ in range(TIMES, ROUNDS):
        alive = [budget for budget in best if best[budget] <= SLOW * min(best.values())]
        if choose(best, start) == start or spent + sum(best[budget] * slots[budget] for budget in alive) > seconds:
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
