"""Progress on stderr: a bar on a terminal, a line every 30 s in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from jobs.execute.progress import Progress
from jobs.plan import Plan
from jobs.report.shown import count

LINE_EVERY_S = 30.0

Update = Callable[[Plan, Progress], None]


@contextmanager
def shown(quiet: bool = False) -> Iterator[Update]:
    """Give a function that shows the totals of a run: rows, rows/s, time left.

    Args:
        quiet: show nothing.
    """
    if quiet:
        yield lambda plan, progress: None
    elif sys.stderr.isatty():
        with tqdm(unit=" rows", smoothing=0.1, delay=0.5) as bar:

            def redraw(plan: Plan, progress: Progress) -> None:
                bar.total = plan.rows_expected
                bar.set_postfix(shards=progress.shards, rejected=progress.rows_rejected, refresh=False)
                bar.update(progress.rows_in - bar.n)

            yield redraw
    else:
        yield _lines()


def _lines() -> Update:
    """An update that prints a line at most every `LINE_EVERY_S` seconds, none for a run that is over before that."""
    started = shown_at = time.monotonic()

    def update(plan: Plan, progress: Progress) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now - shown_at >= LINE_EVERY_S:
            shown_at = now
            print(line(plan, progress, now - started), file=sys.stderr, flush=True)

    return update


def line(plan: Plan, progress: Progress, seconds: float) -> str:
    """One line for a log: `reviews-nightly: 12,000 of 40,000 rows, 400 rows/s, 01:10 left, 3 shards, 0 rejected`."""
    rate = progress.rows_in / seconds if seconds else 0.0
    total = plan.rows_expected
    whole = "" if total is None else f" of {'' if plan.rows_todo is not None else 'about '}{total:,}"
    left = f", {tqdm.format_interval(max(0, total - progress.rows_in) / rate)} left" if total and rate else ""
    return (
        f"{plan.spec.name}: {progress.rows_in:,}{whole} rows, {rate:,.0f} rows/s{left}, "
        f"{count(progress.shards, 'shard')}, {progress.rows_rejected:,} rejected"
    )
