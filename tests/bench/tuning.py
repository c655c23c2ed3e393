"""The setting at which a rival is fastest here, such as its token budget, found before the repeats on some of the rows.

A rival gets what suits it on this machine, because the job gets what suits it too. Only computing is timed here, the
candidates in turn; the repeats then time whole jobs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow.parquet as pq

from tests.bench import arms
from tests.bench.order import Order
from transforms.device import choose_device

BUDGETS = {"cpu": (512, 1024, 2048, 4096), "cuda": (8192, 16384, 32768, 65536, 131072)}
BATCH_SIZES = {"cpu": (1, 4, 8, 16, 32), "cuda": (32, 64, 128, 256)}
# Enough that batches of the largest budget have little padding.
ROWS = {"cpu": 512, "cuda": 8192}
ROUNDS = 2


def best(
    candidates: Sequence[int], compute: Callable[[int], Any], clock: Callable[[], float] = time.perf_counter
) -> dict[int, float]:
    """Seconds of each candidate, the fastest first; the best of a few rounds, in which the candidates take turns.

    Args:
        candidates: what to try.
        compute: called with a candidate.
        clock: as of `turns.take`.
    """
    import torch

    seconds = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for candidate in candidates:
            started = clock()
            try:
                compute(candidate)
            except torch.OutOfMemoryError:
                continue
            seconds[candidate] = min(seconds[candidate], clock() - started)
    return dict(sorted(seconds.items(), key=lambda item: item[1]))


def rows_of(order: Order) -> list[str]:
    """The texts on which a setting is found."""
    most = ROWS[choose_device("auto").type]
    return pq.read_table(order.source, columns=["text"])["text"][:most].to_pylist()


def of_loop(order: Order, kind: str, candidates: Sequence[int], clock: Callable[[], float]) -> dict[int, float]:
    """Seconds of a length-sorted loop at each budget."""
    worker = arms.KINDS[kind](order)
    ids = worker.tokenise(rows_of(order))
    worker.labels(ids[:2])
    return best(candidates, lambda budget: arms.label(worker, ids, budget), clock)


def say(arm: str, seconds: dict[int, float], what: str) -> None:
    """Print how the candidates compare."""
    fastest = min(seconds.values())
    shares = ", ".join(f"{candidate} {fastest / value:.2f}" for candidate, value in sorted(seconds.items()))
    print(f"{arm}: {what} {min(seconds, key=lambda key: seconds[key])} (relative speeds: {shares})", flush=True)
