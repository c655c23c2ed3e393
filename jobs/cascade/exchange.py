"""How the processes of a run tell each other that a threshold is refuted: by a small file in the sink."""

from __future__ import annotations

import logging
import time

from jobs.cascade import kept
from jobs.models.pool import ModelPool
from jobs.plan import Plan
from jobs.store import Store

LOG = logging.getLogger(__name__)

# Seconds between two looks for the file, at least; each is a request to a store that is not on this machine.
LOOK_S, REMOTE_LOOK_S = 1.0, 10.0


def exchange(plan: Plan, models: ModelPool, store: Store) -> None:
    """Tell what this process has found, and take note of what others have; called after each chunk.

    So every process ends the chunk that it computes with the smaller model: up to 1,024 rows on a CPU, 16,384 on a GPU.

    Args:
        plan: the run.
        models: has the watches of this process.
        store: the sink's.
    """
    for task in plan.tasks:
        if task.first is None or task.first.measured is None or task.first.threshold is None:
            continue
        watch, seed = models.watch(task), task.first.measured.seed
        if watch.refuted is not None and not watch.is_told:
            kept.refute(store, seed, watch.refuted)
            watch.is_told = True
            LOG.warning(
                "%s: the models agree on %d of %d checked rows, less than tasks[].first.agree allows; from now on the "
                "task's own model computes every row, and the next run measures again",
                task.spec.into,
                watch.refuted.agreed,
                watch.refuted.checked,
            )
        now = time.monotonic()
        if not watch.is_over and now - watch.looked_at >= (LOOK_S if store.local else REMOTE_LOOK_S):
            watch.looked_at = now
            if kept.refuted(store, seed) is not None:
                watch.stop()
