"""An estimate as lines of text for a person at a terminal."""

from __future__ import annotations

from jobs.estimate.estimate import Estimate, Scale
from jobs.report.shown import count, duration, size

NOTE = "Each worker is taken to be a machine like this one."
WITHOUT_FIRST = (
    "The smaller model of tasks[].first is not measured yet: the estimate is for rows that model computes alone."
)


def text(found: Estimate) -> str:
    """The totals, then a table with a line for each number of workers."""
    if not found.shards:
        return "estimate      nothing to do"
    lines = [f"{what:<14}{value}" for what, value in totals(found)]
    return "\n".join([*lines, "", *table(found), "", NOTE])


def totals(found: Estimate) -> list[tuple[str, str]]:
    """(name, value) of what does not depend on the number of workers."""
    computed = ", ".join(f"{rows:,} for {into}" for into, rows in found.rows_computed.items())
    # Which rows have a text, or one that another row has too, is known of the sample only.
    rows = f"{'' if found.rows_exact else 'about '}{found.rows:,}"
    padding = f", {found.padded_tokens:,} with padding" if found.padded_tokens > found.tokens else ""
    memory = size(found.memory_bytes) + (f", GPU {size(found.gpu_bytes)}" if found.gpu_bytes else "")
    asked = [count(found.hub_requests, "request") + " to the Hub"] if found.hub_requests else []
    asked += [count(found.store_requests, "request") + " to the object store"] if found.store_requests else []
    return [
        ("estimate", f"from {count(found.sampled, 'row')} computed on {found.machine}"),
        ("rows", f"{rows}; computed: {'about ' * found.rows_exact}{computed}"),
        ("tokens", f"about {found.tokens:,}{padding}"),
        ("memory", f"about {memory} a process"),
        ("output", f"about {size(found.output_bytes)}"),
        *([("requests", "about " + ", ".join(asked))] if asked else []),
    ]


def table(found: Estimate) -> list[str]:
    """The lines of the table."""
    head = ["workers", "time", "parts", "worker hours", *([f"cost ({found.currency})"] if found.currency else [])]
    rows = [head, *(_row(each, found) for each in found.scales)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:>{width}}" for cell, width in zip(row, widths, strict=True)) for row in rows]


def _row(scale: Scale, found: Estimate) -> list[str]:
    used = f"{scale.workers}" if scale.used == scale.workers else f"{scale.workers} ({scale.used} used)"
    hours = f"{scale.worker_hours:,.2f}" if scale.worker_hours >= 0.1 else f"{scale.worker_hours:.4f}"
    cost = [f"{scale.cost:,.2f}" if (scale.cost or 0) >= 1 else f"{scale.cost:.4f}"] if found.currency else []
    return [used, duration(scale.seconds), f"{scale.parts:,}", hours, *cost]
