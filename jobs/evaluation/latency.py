"""How long a version takes beside another on the same rows: repeated passes in turn, both loaded and warm."""

from __future__ import annotations

import statistics
import time

from jobs.evaluation.predict import Prepared
from jobs.models import pool
from transforms.contract import Annotator

# With fewer rows a pass ends in milliseconds, and its time says nothing.
FEWEST_ROWS = 32
PASSES = 7
# Rows are taken for about so long a pass, so that the measurement of slow models ends in about two minutes.
PASS_S = 8.0


def ratio(before: Prepared, after: Prepared, rows_per_s: float) -> float | None:
    """The median of repeated passes of time of the second version divided by time of the first.

    Both compute the same rows in turn, after a first pass that is not counted; which one is first alternates. A machine
    that is busy with other work for a while slows both, and the median leaves out the passes that it slows unevenly.

    Args:
        before: the champion, with at least one row.
        after: the challenger, with the same rows.
        rows_per_s: speed of the champion, from an earlier pass.

    Returns:
        The ratio; None with fewer than `FEWEST_ROWS` rows.

    Raises:
        RunError: the two models do not fit into memory together.
    """
    if len(before.rows) < FEWEST_ROWS:
        return None
    rows = max(FEWEST_ROWS, round(PASS_S * rows_per_s))
    loaded = [(pool.load(each.plan), each.first(rows)) for each in (before, after)]
    for annotator, prepared in loaded:
        _seconds(annotator, prepared)
    ratios = []
    for number in range(PASSES):
        order = (0, 1) if number % 2 == 0 else (1, 0)
        seconds = {version: _seconds(*loaded[version]) for version in order}
        ratios.append(seconds[1] / max(seconds[0], 1e-9))
    return statistics.median(ratios)


def _seconds(annotator: Annotator, prepared: Prepared) -> float:
    started = time.perf_counter()
    for batch in prepared.batches():
        annotator(batch)
    return time.perf_counter() - started
