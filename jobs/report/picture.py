"""The pictures of a report, as PNG: how fast it went, what was found, how long the texts were, what was rejected."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from jobs.report.findings import LENGTH_EDGES, SCORE_EDGES, Findings

TONIGHT, BEFORE, INK, GRID, WARNING = "#2563eb", "#a3b1c6", "#334155", "#e2e8f0", "#dc2626"
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
}
# The report's column in the Prefect UI is 600 pixels wide on most screens; letters stay readable in it.
WIDTH_IN, ROW_IN, DPI = 7.4, 2.4, 130
BARS = 10
Draw = Callable[[Axes], None]


def throughput(timeline: Sequence[tuple[float, int, int]]) -> bytes | None:
    """Rows a second over time, and the rows done; None for a run too short to have any.

    Args:
        timeline: (seconds, rows, tokens) since the start.
    """
    if len(timeline) < 2 or timeline[-1][1] == 0:
        return None
    seconds, rows, tokens = (np.array(values, float) for values in zip(*timeline, strict=True))
    # Totals move a chunk at a time: between two samples that differ lies the speed, not a peak and a pause.
    moved = np.flatnonzero(np.diff(tokens, prepend=-1))
    ends, speeds = seconds[moved], np.diff(tokens[moved]) / np.maximum(np.diff(seconds[moved]), 1e-9)

    def speed(axis: Axes) -> None:
        axis.set_title("tokens a second")
        axis.stairs(speeds, ends, fill=True, color=TONIGHT, alpha=0.25)
        axis.stairs(speeds, ends, color=TONIGHT)
        axis.set_xlim(seconds[0], seconds[-1])
        axis.set_xlabel("seconds since the start")
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(FuncFormatter(_short))

    def done(axis: Axes) -> None:
        axis.set_title("rows done")
        axis.plot(seconds, rows, color=TONIGHT)
        axis.fill_between(seconds, rows, color=TONIGHT, alpha=0.1)
        axis.set_xlim(seconds[0], seconds[-1])
        axis.set_xlabel("seconds since the start")
        axis.set_ylim(bottom=0)
        axis.yaxis.set_major_formatter(FuncFormatter(_short))

    return _draw([speed, done])


def labels(tonight: Findings, before: Sequence[Findings]) -> bytes | None:
    """The share of each label, and the scores, against the last nights; None where no task gives labels."""
    cells: list[Draw] = []
    for name, counts in tonight.labels.items():
        earlier: Counter[str] = Counter()
        for night in before:
            earlier.update(night.labels.get(name, {}))
        cells.append(_shares(name, counts, earlier))
        if name in tonight.scores:
            sums = _sum([night.scores[name] for night in before if name in night.scores])
            cells.append(_steps(f"scores of {name}", tonight.scores[name], sums, SCORE_EDGES))
    return _draw(cells)


def lengths(tonight: Findings, before: Sequence[Findings]) -> bytes | None:
    """How long the texts were and what was rejected; None where there was no text."""
    if not sum(tonight.lengths):
        return None
    cells = [_steps("text length, characters", tonight.lengths, _sum([n.lengths for n in before]), LENGTH_EDGES)]
    if tonight.rejects:
        cells.append(_rejects(tonight.rejects))
    return _draw(cells)


def _draw(cells: Sequence[Draw]) -> bytes | None:
    """Two cells a row on one sheet."""
    if not cells:
        return None
    rows = -(-len(cells) // 2)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, ROW_IN * rows), dpi=DPI, layout="constrained", facecolor="white")
        axes = list(figure.subplots(rows, 2, squeeze=False).flat)
        for axis, draw in zip(axes, cells, strict=False):
            draw(axis)
        for axis in axes[len(cells) :]:
            axis.set_visible(False)
        stream = io.BytesIO()
        figure.savefig(stream, format="png")
    return stream.getvalue()


def _shares(name: str, tonight: Mapping[str, int], before: Mapping[str, int]) -> Draw:
    """Bars of the commonest labels of both, tonight's above the last nights'."""
    together = Counter(tonight) + Counter(before)
    chosen = [label for label, _ in together.most_common(BARS)][::-1]

    def draw(axis: Axes) -> None:
        axis.set_title(name)
        places = np.arange(len(chosen), dtype=float)
        height = 0.38 if before else 0.7
        axis.barh(places + (0.2 if before else 0), _share(tonight, chosen), height, color=TONIGHT, label="this run")
        if before:
            axis.barh(places - 0.2, _share(before, chosen), height, color=BEFORE, label="last runs")
            axis.legend(loc="lower right")
        axis.set_yticks(places, [label if len(label) <= 24 else label[:23] + "…" for label in chosen])
        axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        _slim(axis, len(chosen))

    return draw


def _steps(title: str, tonight: Sequence[int], before: Sequence[int], edges: np.ndarray) -> Draw:
    """A histogram of shares over the bins that are used, evenly spaced whatever their width."""
    used = np.flatnonzero(np.array(tonight) + (np.array(before) if len(before) else 0))
    low, high = (int(used[0]), int(used[-1]) + 1) if len(used) else (0, 1)
    names = [_edge(edge) for edge in edges[low : high + 1]]

    def draw(axis: Axes) -> None:
        axis.set_title(title)
        places = np.arange(high - low + 1)
        axis.stairs(_normal(tonight)[low:high], places, fill=True, color=TONIGHT, alpha=0.25)
        axis.stairs(_normal(tonight)[low:high], places, color=TONIGHT, label="this run")
        if len(before):
            axis.stairs(_normal(before)[low:high], places, color=INK, linestyle="--", label="last runs")
            axis.legend()
        every = max(1, len(places) // 7)
        axis.set_xticks(places[::every], names[::every])
        axis.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
        axis.set_ylim(bottom=0)

    return draw


def _rejects(rejects: Mapping[str, int]) -> Draw:
    def draw(axis: Axes) -> None:
        names, counts = zip(*list(rejects.items())[:BARS][::-1], strict=True)
        axis.set_title("rejected rows by reason")
        axis.barh([name if len(name) <= 32 else name[:31] + "…" for name in names], counts, 0.6, color=WARNING)
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        _slim(axis, len(names))

    return draw


def _slim(axis: Axes, bars: int) -> None:
    """Keep one or two bars from filling the whole cell."""
    span = max(bars, 4) / 2
    axis.set_ylim((bars - 1) / 2 - span, (bars - 1) / 2 + span)
    axis.grid(visible=False, axis="y")


def _edge(edge: float) -> str:
    return _short(round(edge, 2)) if np.isfinite(edge) else ("-∞" if edge < 0 else "∞")


def _share(counts: Mapping[str, int], chosen: Sequence[str]) -> np.ndarray:
    total = sum(counts.values()) or 1
    return np.array([counts.get(label, 0) / total for label in chosen])


def _normal(counts: Sequence[int]) -> np.ndarray:
    return np.array(counts) / (sum(counts) or 1)


def _sum(nights: Sequence[Sequence[int]]) -> list[int]:
    return np.sum(nights, axis=0, dtype=int).tolist() if nights else []


def _short(value: float, _: object = None) -> str:
    if value >= 1024 and value % 1024 == 0:
        return f"{value / 1024:g}Ki"
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
