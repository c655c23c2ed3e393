"""The pictures of a report: speed, labels and scores, text lengths, rejected rows.

Each picture comes in two forms: as SVG whose colours are CSS variables, for a page that a browser shows light or dark,
and on a PNG sheet for the Prefect UI.
"""

from __future__ import annotations

import html
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from jobs.report.findings import LENGTH_EDGES, SCORE_EDGES, Findings

TONIGHT, BEFORE, INK, GRID, WARNING = "#2563eb", "#a3b1c6", "#334155", "#e2e8f0", "#dc2626"
VARIABLES = {TONIGHT: "--tonight", BEFORE: "--before", INK: "--ink", GRID: "--line", WARNING: "--warning"}
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GRID,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8,
    # Text stays text, in the font of the page; equal pictures give equal files.
    "svg.fonttype": "none",
    "svg.hashsalt": "nightscribe",
}
# The report's column in the Prefect UI is 600 pixels wide on most screens; letters stay readable in it.
WIDTH_IN, ROW_IN, DPI = 7.4, 2.4, 130
BARS = 10
# Labels of a tick that fit side by side under half a sheet, and letters of a bar's name beside it.
TICKS, NAME = 6, 22


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        title: what it shows.
        draw: draws it, title excluded.
        height_in: height in inches.
        is_wide: whether it takes the whole width of a page.
    """

    title: str
    draw: Callable[[Axes], None]
    height_in: float = ROW_IN
    is_wide: bool = False


def throughput(timeline: Sequence[tuple[float, int, int]]) -> list[Picture]:
    """Tokens/s over time, and the finished rows; none for a run too short to have any.

    Args:
        timeline: (seconds, rows, tokens) since the start.
    """
    if len(timeline) < 2 or timeline[-1][1] == 0:
        return []
    seconds, rows, tokens = (np.array(values, float) for values in zip(*timeline, strict=True))
    pictures = []
    if tokens[-1] > 0:
        # Totals change once per chunk. The speed is computed between two samples that differ, which avoids false peaks.
        moved = np.flatnonzero(np.diff(tokens, prepend=-1))
        # Tokens of a shard that an earlier attempt left unfinished are computed again: the speed is not negative.
        done = np.maximum(np.diff(tokens[moved]), 0)
        ends, speeds = seconds[moved], done / np.maximum(np.diff(seconds[moved]), 1e-9)

        def speed(axis: Axes) -> None:
            axis.stairs(speeds, ends, fill=True, color=TONIGHT, alpha=0.25)
            axis.stairs(speeds, ends, color=TONIGHT)
            _over_time(axis, seconds)

        pictures.append(Picture("tokens/s", speed))

    def rows_done(axis: Axes) -> None:
        axis.plot(seconds, rows, color=TONIGHT)
        axis.fill_between(seconds, rows, color=TONIGHT, alpha=0.1)
        _over_time(axis, seconds)

    return [*pictures, Picture("rows done", rows_done)]


def labels(tonight: Findings, before: Sequence[Findings]) -> list[Picture]:
    """The share of each label, and the scores, compared with earlier runs; none if no task gives labels or scores."""
    pictures: list[Picture] = []
    for name in dict.fromkeys([*tonight.labels, *tonight.scores]):
        if counts := tonight.labels.get(name):
            earlier: Counter[str] = Counter()
            for night in before:
                earlier.update(night.labels.get(name, {}))
            pictures.append(Picture(f"labels of {name}", _shares(counts, earlier)))
        if sum(scores := tonight.scores.get(name, ())):
            sums = _sum([night.scores[name] for night in before if name in night.scores])
            pictures.append(Picture(f"scores of {name}", _steps(scores, sums, SCORE_EDGES)))
    return pictures


def lengths(tonight: Findings, before: Sequence[Findings]) -> list[Picture]:
    """Text lengths and rejected rows; none if there are neither."""
    pictures = []
    if sum(tonight.lengths):
        earlier = _sum([night.lengths for night in before])
        pictures.append(Picture("text length, characters", _steps(tonight.lengths, earlier, LENGTH_EDGES)))
    if tonight.rejects:
        pictures.append(Picture("rejected rows by reason", _rejects(tonight.rejects)))
    return pictures


def sheet(pictures: Sequence[Picture]) -> bytes | None:
    """The pictures as one PNG, two per row; a last single picture fills its row. None if there are no pictures."""
    if not pictures:
        return None
    rows = -(-len(pictures) // 2)
    layout: Any = [[f"{2 * row}", f"{min(2 * row + 1, len(pictures) - 1)}"] for row in range(rows)]
    heights = [max(picture.height_in for picture in pictures[2 * row : 2 * row + 2]) for row in range(rows)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, sum(heights)), dpi=DPI, layout="constrained", facecolor="white")
        axes = figure.subplot_mosaic(layout, height_ratios=heights)
        for index, picture in enumerate(pictures):
            axes[str(index)].set_title(picture.title)
            picture.draw(axes[str(index)])
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
    return stream.getvalue()


def svg(picture: Picture) -> str:
    """A picture as an SVG element to put into a page, as wide as there is room, its colours the page's variables."""
    with matplotlib.rc_context(STYLE):
        width_in = WIDTH_IN if picture.is_wide else WIDTH_IN / 2
        figure = Figure(figsize=(width_in, picture.height_in), layout="constrained")
        picture.draw(figure.subplots())
        stream = io.StringIO()
        figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Ids that several pictures of one page would share; ids of clip paths and markers are hashes of their content.
    text = re.sub(r' id="[a-zA-Z]+[0-9]*_[0-9]+"', "", text)
    text = re.sub(r'<svg ([^>]*?)width="[^"]*"', r"<svg \1", re.sub(r'(<svg [^>]*?)height="[^"]*"', r"\1", text))
    text = re.sub(r"font: ([\d.]+px)[^;\"]*", r"font: \1 var(--font)", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text.replace("<svg ", f'<svg role="img" aria-label="{html.escape(picture.title)}" ', 1)


def _over_time(axis: Axes, seconds: np.ndarray) -> None:
    axis.set_xlim(seconds[0], max(seconds[-1], seconds[0] + 1e-3))
    axis.set_xlabel("seconds since the start")
    axis.set_ylim(bottom=0)
    axis.xaxis.set_major_locator(MaxNLocator(TICKS))
    axis.yaxis.set_major_locator(MaxNLocator(TICKS - 1))
    axis.yaxis.set_major_formatter(FuncFormatter(short))


def _shares(tonight: Mapping[str, int], before: Mapping[str, int]) -> Callable[[Axes], None]:
    """Bars of the most common labels: for each label this run's bar, and below it the bar of the earlier runs."""
    together = Counter(tonight) + Counter(before)
    chosen = [label for label, _ in together.most_common(BARS)][::-1]

    def draw(axis: Axes) -> None:
        places = np.arange(len(chosen), dtype=float)
        height = 0.38 if before else 0.7
        axis.barh(places + (0.2 if before else 0), _share(tonight, chosen), height, color=TONIGHT, label="this run")
        if before:
            axis.barh(places - 0.2, _share(before, chosen), height, color=BEFORE, label="runs before")
            _legend_below(axis)
        axis.set_yticks(places, [_name(label) for label in chosen])
        axis.xaxis.set_major_locator(MaxNLocator(TICKS - 2))
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _slim(axis, len(chosen))

    return draw


def _steps(tonight: Sequence[int], before: Sequence[int], edges: np.ndarray) -> Callable[[Axes], None]:
    """A histogram of shares over the bins that are used, evenly spaced whatever their width."""
    used = np.flatnonzero(np.array(tonight) + (np.array(before) if len(before) else 0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    names = [_edge(edge) for edge in edges[low : high + 1]]

    def draw(axis: Axes) -> None:
        places = np.arange(high - low + 1)
        axis.stairs(_normal(tonight)[low:high], places, fill=True, color=TONIGHT, alpha=0.25)
        axis.stairs(_normal(tonight)[low:high], places, color=TONIGHT, label="this run")
        if sum(before):
            axis.stairs(_normal(before)[low:high], places, color=INK, linestyle="--", label="runs before")
            _legend_below(axis)
        every = -(-len(places) // TICKS)
        axis.set_xticks(places[::every], names[::every])
        axis.yaxis.set_major_locator(MaxNLocator(TICKS - 2))
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_ylim(bottom=0)

    return draw


def _rejects(rejects: Mapping[str, int]) -> Callable[[Axes], None]:
    def draw(axis: Axes) -> None:
        names, counts = zip(*list(rejects.items())[:BARS][::-1], strict=True)
        places = np.arange(len(names), dtype=float)
        axis.barh(places, counts, 0.6, color=WARNING)
        axis.set_yticks(places, [_name(name) for name in names])
        axis.xaxis.set_major_locator(MaxNLocator(TICKS - 2, integer=True))
        axis.xaxis.set_major_formatter(FuncFormatter(short))
        _slim(axis, len(names))

    return draw


def _legend_below(axis: Axes) -> None:
    """Place the legend below the axis, where it covers no bar."""
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)


def _slim(axis: Axes, bars: int) -> None:
    """Keep one or two bars from filling the whole picture."""
    span = max(bars, 4) / 2
    axis.set_ylim((bars - 1) / 2 - span, (bars - 1) / 2 + span)
    axis.grid(visible=False, axis="y")


def _name(name: str) -> str:
    # A dollar sign would start a formula.
    return (name if len(name) <= NAME else f"{name[: NAME - 1]}…").replace("$", r"\$")


def _edge(edge: float) -> str:
    return short(round(edge, 2)) if np.isfinite(edge) else ("-∞" if edge < 0 else "∞")


def _share(counts: Mapping[str, int], chosen: Sequence[str]) -> np.ndarray:
    total = sum(counts.values()) or 1
    return np.array([counts.get(label, 0) / total for label in chosen])


def _normal(counts: Sequence[int]) -> np.ndarray:
    return np.array(counts) / (sum(counts) or 1)


def _sum(nights: Sequence[Sequence[int]]) -> list[int]:
    return np.sum(nights, axis=0, dtype=int).tolist() if nights else []


def short(value: float, _: object = None) -> str:
    """A number for a tick: 950, 1.5k, 64Ki, 2M."""
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g}Ki"
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
