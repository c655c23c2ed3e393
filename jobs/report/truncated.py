"""How many rows were longer than a model's window, and what would read them whole: in numbers, and as a sentence."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

from jobs.report.shown import count
from transforms import registry
from transforms.contract import Truncated

if TYPE_CHECKING:
    from jobs.plan import Plan
    from jobs.sink.entry import Entry

TRUNCATE, REJECT = "truncate", "reject"


def numbers(plan: Plan, entries: Iterable[Entry]) -> dict[str, Truncated]:
    """The numbers of each task that says what it has cut, by its column.

    Args:
        plan: the run.
        entries: the entries of the night; those of earlier versions have no numbers.
    """
    found: dict[str, Truncated] = {}
    for entry in entries:
        for task in plan.tasks:
            if (into := task.spec.into) in entry.truncated:
                found[into] = found.get(into, Truncated()) + entry.truncated[into]
    return found


def sentences(specs: Iterable[Mapping[str, Any]], found: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str]]:
    """For each task that has cut something, its column, and a sentence without its full stop.

    Args:
        specs: the tasks of the job as JSON, each with its options.
        found: column of a task -> its `Truncated` as JSON.
    """
    return [
        (spec["into"], _sentence(spec, numbers))
        for spec in specs
        if (numbers := found.get(spec["into"])) is not None and numbers["cut"]
    ]


def _sentence(spec: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    at = " or ".join(f"{tokens:,}" for tokens in found["max_lengths"])
    text = f"{spec['task']} cut {found['cut']:,} of {count(found['rows'], 'row')} at {at} tokens"
    if spec.get("long_text") != TRUNCATE:
        return text
    # The first alternative that the task's own options name.
    choices = get_args(get_type_hints(registry.get(spec["task"]).Options)["long_text"])
    other = next(choice for choice in choices if choice != TRUNCATE)
    return f"{text}; long_text: {other} {'rejects such rows' if other == REJECT else 'reads them whole'}"
