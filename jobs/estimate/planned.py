"""The estimate of a plan: calibrate, estimate, keep both."""

from __future__ import annotations

import os
import platform
import time

import psutil

from jobs.estimate import calibrate, kept
from jobs.estimate.estimate import Estimate, estimate
from jobs.plan import Plan
from jobs.sink.folder import FolderSink
from jobs.spec.prices import PriceSpec

# A new process does not take longer to import what it needs; this one may have been there for a long time.
MOST_IMPORTS_S = 20.0


def of_plan(plan: Plan, sink: FolderSink, prices: PriceSpec | None = None) -> Estimate:
    """Compute a sample of the rows to do and say what the run will take; kept in the cache folder of the user.

    Args:
        plan: the run.
        sink: its sink, which is not written.
        prices: prices; by default those of the job file.

    Raises:
        SourceError: a file cannot be read, or changed since it was planned.
        ModelError: a model cannot be loaded.
    """
    imports_s = min(MOST_IMPORTS_S, time.time() - psutil.Process().create_time())
    ledger = sink.entries(plan)
    rate = calibrate.calibrate(plan, sink, ledger)
    found = estimate(plan, rate, ledger, sink.store, prices, imports_s, machine())
    if rate is not None:
        kept.keep(plan, found, rate)
    return found


def machine() -> str:
    """This machine in a few words: `worker-7, 8 cores, 62 GB`."""
    gigabytes = psutil.virtual_memory().total / 1e9
    return f"{platform.node()}, {os.cpu_count() or 1} cores, {gigabytes:.0f} GB"
