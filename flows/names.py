"""The name of a run in the Prefect UI: the one that a person typed, or the job and the time."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from prefect.runtime import flow_run

from jobs import spec
from jobs.report.shown import clock
from transforms.errors import NightscribeError

# The form of the UI fills in a name of this kind: one of these words, a dash, and the name of a dish or an animal.
FILLED_IN = re.compile(
    r"(Awesome|Rustic|Small|Gorgeous|Fantastic|Sleek|Intelligent|Unbranded|Refined|Licensed|Generic|Practical|Ergonomic"
    r"|Handcrafted|Tasty|Handmade|Incredible)-.{1,40}"
)


def name_of_run() -> str:
    """The name that a person typed, else the job, how it was started, and when.

    Such as `reviews-nightly, scheduled for 2026-11-25 02:15 CET`.
    """
    return _name("job", spec.read)


def name_of_training() -> str:
    """As `name_of_run`, for a training file."""
    from jobs.training import spec as training

    return _name("training", training.read)


def _name(parameter: str, read: Callable[[str], Any]) -> str:
    if not is_generated(flow_run.name):
        return flow_run.name
    job = flow_run.parameters[parameter]
    timezone = "UTC"
    try:
        parsed = read(job)
        name = parsed.name
        if parsed.schedule is not None:
            timezone = parsed.schedule.timezone
    except NightscribeError:
        # The run itself reports the error in the file.
        name = Path(job).stem
    how = "scheduled for" if "auto-scheduled" in flow_run.tags else "started"
    return f"{name}, {how} {clock(flow_run.scheduled_start_time, timezone)}"


def is_generated(name: str | None) -> bool:
    """Whether a name was made up by Prefect's server or by the form of its UI, and not typed by a person."""
    if not name or FILLED_IN.fullmatch(name):
        return True
    words = name.split("-")
    return len(words) == 2 and _words().issuperset(words)


@cache
def _words() -> frozenset[str]:
    """The words from which Prefect's server makes names."""
    from coolname import data

    config: dict[str, Any] = data.config
    return frozenset(word for item in config.values() for word in item.get("words", ()))
