"""A finished run compared with the estimate that was made of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jobs.estimate import kept
from jobs.report import Report
from jobs.report.shown import duration

if TYPE_CHECKING:
    from jobs.plan import Plan

# What is compared: name of the number, its key in the estimate and in the report.
NUMBERS = (
    ("rows", "rows", "rows_in"),
    ("tokens", "tokens", "tokens"),
    ("tokens with padding", "padded_tokens", "padded_tokens"),
    ("seconds", "seconds", "seconds"),
    ("requests to the Hub", "hub_requests", "hub_requests"),
    ("requests to object stores", "store_requests", "store_requests"),
)
HEAD = ("", "estimated", "measured", "measured / estimated")
TITLE = "Estimate and outcome"


@dataclass(frozen=True)
class Compared:
    """One number.

    Attributes:
        what: its name.
        estimated: before the run.
        measured: by the run.
    """

    what: str
    estimated: float
    measured: float


def compare(plan: Plan, report: Report, shards: Collection[str]) -> dict[str, Any] | None:
    """The estimate of a run beside what came of it, as plain JSON for its report.

    Args:
        plan: the run.
        report: its numbers.
        shards: ids of the shards that it has done.

    Returns:
        None if this machine has no estimate of these shards.
    """
    if not shards or (found := kept.find(plan)) is None or found.shards != kept.digest(shards):
        return None
    estimated, measured = asdict(found.estimate), asdict(report) | {"store_requests": report.store_requests.requests}
    numbers = [
        Compared(what, float(estimated[ours]), float(measured[theirs]))
        for what, ours, theirs in NUMBERS
        # Workers elsewhere take another time.
        if (estimated[ours] or measured[theirs]) and (what != "seconds" or plan.spec.runner.is_here)
    ]
    told = {"run_id": found.run_id, "machine": found.estimate.machine, "sampled": found.estimate.sampled}
    return told | {"numbers": [asdict(each) for each in numbers]}


def rows(content: dict[str, Any] | None) -> list[tuple[str, str, str, str]]:
    """The comparison as a table with the head HEAD; empty without one."""
    numbers = [Compared(**each) for each in (content or {}).get("numbers", ())]
    return [(each.what.replace("seconds", "time"), *_values(each), _ratio(each)) for each in numbers]


def note(content: dict[str, Any] | None) -> str:
    """Where the estimate comes from, as a sentence; empty without one."""
    if content is None:
        return ""
    return f"Estimated from {content['sampled']:,} rows that were computed on {content['machine']}."


def _values(compared: Compared) -> tuple[str, str]:
    if compared.what == "seconds":
        return duration(compared.estimated), duration(compared.measured)
    return f"{compared.estimated:,.0f}", f"{compared.measured:,.0f}"


def _ratio(compared: Compared) -> str:
    return f"{compared.measured / compared.estimated:.2f}" if compared.estimated else ""
