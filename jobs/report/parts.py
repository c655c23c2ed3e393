"""The parts of a run in its report: a picture with a row for each worker, and the numbers in a sentence."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from jobs.parts.timeline import Bar, Numbers, Timeline
from jobs.report.picture import INK, NAME, ROW_IN, TICKS, TONIGHT, WARNING, Picture
from jobs.report.shown import count

TITLE = "Parts"
NOTE = (
    "A row for each worker, a box for each of its parts with the part's number, a bar for each shard. Lost parts are "
    "red; what they had not done was handed out again."
)
# Rows of the picture; further workers are counted below it.
MAX_ROWS = 24
# Height of a row, and of what is above and below all of them.
LANE_IN, MARGIN_IN = 0.26, 0.9
# The share of the width that a part needs to have its number in it.
NUMBERED = 0.035

# A worker, and parts that it had one after another.
Lane = tuple[str, list[Bar]]


def pictures(found: Timeline | None) -> list[Picture]:
    """Who did what when; none for a run that was not divided into parts."""
    if found is None or not found.bars:
        return []
    lanes = _lanes(found)
    height_in = max(ROW_IN, MARGIN_IN + LANE_IN * min(len(lanes), MAX_ROWS))
    return [Picture("who did what when", _drawer(lanes), height_in, is_wide=True)]


def sentence(numbers: Numbers) -> str:
    """Such as `12 parts on 3 workers, 1 lost, 0 refused`."""
    made = f"{count(numbers.number, 'part')} on {count(numbers.workers, 'worker')}"
    return f"{made}, {numbers.lost:,} lost, {numbers.refused:,} refused"


def shares(numbers: Numbers) -> str:
    """The shards of each worker, such as `host-1: 40, host-2: 38`."""
    some = list(numbers.shards.items())
    more = f", and {len(some) - MAX_ROWS:,} more workers" if len(some) > MAX_ROWS else ""
    return ", ".join(f"{worker}: {shards:,}" for worker, shards in some[:MAX_ROWS]) + more


def _lanes(found: Timeline) -> list[Lane]:
    """The rows of the picture; a worker with several parts at a time has several."""
    lanes: list[Lane] = []
    for worker in found.workers:
        own: list[list[Bar]] = []
        for bar in sorted((bar for bar in found.bars if bar.worker == worker), key=lambda bar: bar.began):
            free = next((lane for lane in own if lane[-1].ended <= bar.began), None)
            if free is None:
                own.append([bar])
            else:
                free.append(bar)
        lanes += [(worker, lane) for lane in own]
    return lanes


def _drawer(lanes: Sequence[Lane]) -> Callable[[Axes], None]:
    start = min(bar.began for _, lane in lanes for bar in lane)
    seconds = max(bar.ended for _, lane in lanes for bar in lane) - start
    # A run of hours is read in minutes.
    unit, divisor = ("seconds", 1.0) if seconds < 600 else ("minutes", 60.0)
    width = max(seconds / divisor, 1e-3)

    def draw(axis: Axes) -> None:
        for row, (_, lane) in enumerate(lanes[:MAX_ROWS]):
            for bar in lane:
                _draw(axis, bar, row, start, divisor, width)
        axis.set_xlim(0, 1.01 * width)
        # At least three rows high, so that one worker does not fill the picture.
        axis.set_ylim(max(3, min(len(lanes), MAX_ROWS)) - 0.4, -0.6)
        axis.set_yticks(range(min(len(lanes), MAX_ROWS)), [_name(worker) for worker, _ in lanes[:MAX_ROWS]])
        axis.grid(visible=False, axis="y")
        axis.xaxis.set_major_locator(MaxNLocator(TICKS))
        axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        more = f"; {len(lanes) - MAX_ROWS} more rows are not shown" if len(lanes) > MAX_ROWS else ""
        axis.set_xlabel(f"{unit} since the first part began{more}")
        key: list[Any] = [
            Patch(facecolor=TONIGHT, alpha=0.6, label="shard"),
            Patch(fill=False, edgecolor=INK, label="part"),
        ]
        if any(bar.end in ("lost", "failed") for _, lane in lanes for bar in lane):
            key.append(Patch(fill=False, edgecolor=WARNING, hatch="////", label="lost or failed"))
        if any(bar.end == "refused" for _, lane in lanes for bar in lane):
            key.append(Line2D([], [], color=WARNING, marker="x", linestyle="", label="refused"))
        axis.legend(handles=key, loc="lower right", bbox_to_anchor=(1, 1), ncols=len(key), borderaxespad=0.2)

    return draw


def _draw(axis: Axes, bar: Bar, row: int, start: float, divisor: float, width: float) -> None:
    def at(moment: float) -> float:
        return (moment - start) / divisor

    if bar.end == "refused":
        axis.plot([at(bar.began)], [row], color=WARNING, marker="x", linestyle="")
        return
    # With gaps between shards that can be seen, unless they are narrower than the gap.
    spans = [(at(began), max(at(ended) - at(began) - width / 1000, width / 2000)) for began, ended in bar.shards]
    axis.broken_barh(spans, (row - 0.3, 0.6), facecolors=TONIGHT, alpha=0.6, linewidth=0)
    box = (at(bar.began), at(bar.ended) - at(bar.began))
    axis.broken_barh([box], (row - 0.36, 0.72), facecolors="none", edgecolors=INK, linewidth=0.8)
    if bar.end in ("lost", "failed"):
        undone = max([bar.began, *(ended for _, ended in bar.shards)])
        rest = [(at(undone), at(bar.ended) - at(undone))]
        axis.broken_barh(rest, (row - 0.36, 0.72), facecolors="none", edgecolors=WARNING, hatch="////", linewidth=1)
    if box[1] > NUMBERED * width:
        axis.text(box[0] + box[1] / 2, row, str(bar.number), ha="center", va="center", fontsize=8)


def _name(worker: str) -> str:
    # Workers differ at the end of their names. A dollar sign would start a formula.
    return (worker if len(worker) <= NAME else f"…{worker[1 - NAME :]}").replace("$", r"\$")
