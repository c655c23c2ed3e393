"""The accuracy of earlier nights in a report: a table and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from jobs.report.picture import BEFORE, TICKS, TONIGHT, Picture
from jobs.report.shown import clock
from jobs.store import Store

if TYPE_CHECKING:
    from jobs.evaluation.bootstrap import Interval
    from jobs.review.accuracy import NightAccuracy

TITLE = "Accuracy of earlier nights"
NOTE = (
    "From the rows that people labelled and the model's scores of all rows of the night; beside it the interval that "
    "the labelled rows alone would give."
)
HEAD = ("night", "estimate", "interval", "from labels alone", "labels")

# Nights that are shown.
LAST = 30


def earlier(numbers: Mapping[str, Any]) -> list[NightAccuracy]:
    """The nights of a job with labels, oldest first; none for a job without a review.

    Args:
        numbers: of a run of the job, as kept in the sink.

    Raises:
        SinkError: the review folder cannot be read.
    """
    if not (path := numbers.get("review")):
        return []
    from jobs.review import accuracy

    return accuracy.read(Store(path, "review.path"), numbers["name"])[-LAST:]


def rows(nights: Sequence[NightAccuracy], timezone: str) -> list[tuple[str, ...]]:
    """The values of the table's columns for each night, the latest first."""
    return [
        (
            clock(datetime.fromisoformat(each.at), timezone),
            f"{each.night.estimate.value:.1%} {each.measure}",
            _ends(each.night.estimate),
            _ends(each.night.classical),
            f"{each.night.corrected:,} of {each.night.rows:,}",
        )
        for each in reversed(nights)
    ]


def pictures(nights: Sequence[NightAccuracy]) -> list[Picture]:
    """The estimates with both intervals, night by night; none for a single night."""
    if len(nights) < 2:
        return []

    def draw(axis: Axes) -> None:
        places = np.arange(len(nights), dtype=float)
        both = (("classical", BEFORE, "labels alone"), ("estimate", TONIGHT, "with all scores"))
        for (name, colour, label), shift in zip(both, (-0.12, 0.12), strict=True):
            found = [getattr(each.night, name) for each in nights]
            values = np.array([one.value for one in found])
            ends = np.array([[one.value - one.low for one in found], [one.high - one.value for one in found]])
            # Rounding may put an end a hair on the wrong side of the value.
            axis.errorbar(
                places + shift, values, np.maximum(ends, 0), fmt="o", ms=3, color=colour, capsize=2, label=label
            )
        every = -(-len(nights) // TICKS)
        axis.set_xticks(places[::every], [each.at[5:10] for each in nights][::every])
        axis.set_xlim(-0.6, len(nights) - 0.4)
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)

    return [Picture("accuracy of each night", draw)]


def _ends(interval: Interval) -> str:
    return f"{interval.low:.1%} to {interval.high:.1%}"
