"""What smaller models did for their tasks: in numbers, and as sentences for a plan and a report."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jobs.report.shown import count
from transforms.contract import Asked

if TYPE_CHECKING:
    from jobs.plan import Plan
    from jobs.sink.entry import Entry
    from jobs.store import Store


@dataclass(frozen=True)
class FirstNumbers:
    """The rows of a night that a smaller model was asked first.

    Attributes:
        rows: rows with something to annotate that were computed.
        answered: those that it answered.
        checked: answers that the task's own model gave too or corrected; they are in the sink as that model gave them.
        agreed: checked answers on which both models agree.
        refuted: whether checked answers showed that the models agree less often than promised, which stopped it.
    """

    rows: int = 0
    answered: int = 0
    checked: int = 0
    agreed: int = 0
    refuted: bool = False


def numbers(plan: Plan, entries: Iterable[Entry], store: Store) -> dict[str, FirstNumbers]:
    """The numbers of each task with a smaller model, by its column.

    Args:
        plan: the run.
        entries: the entries of the night.
        store: the sink's.
    """
    # Imported here, because a thresholds' file is looked for only by jobs that have one.
    from jobs.cascade import kept

    done = list(entries)
    found = {}
    for task in plan.tasks:
        if task.first is None:
            continue
        into, measured = task.spec.into, task.first.measured
        total = sum((each.asked[into] for each in done if into in each.asked), Asked())
        refuted = measured is not None and bool(measured.seed) and kept.refuted(store, measured.seed) is not None
        found[into] = FirstNumbers(total.rows, total.answered, total.checked, total.agreed, refuted)
    return found


def planned(task: Mapping[str, Any]) -> str:
    """The smaller model of a task and its threshold: `first org/small version 9a91c0ffee12, for confidence 0.93 on`.

    Args:
        task: a task of a plan as JSON, which has a smaller model.
    """
    first, asked = task["first"], task["spec"]["first"]
    name = f"first {first['model']['name']} version {first['model']['commit'][:12]}"
    if (measured := first["measured"]) is None:
        return f"{name} (its threshold is measured when the run starts)"
    if measured["threshold"] is None:
        return f"{name} ({measured['why']})"
    sample = f"{measured['answered']:,} of {count(measured['rows'], 'sampled row')}, {measured['agreed']:,} alike"
    return (
        f"{name} for rows with a confidence of {measured['threshold']:.4g} or more, where both agree on at least "
        f"{asked['agree']:.4g} of the rows with {asked['confidence']:.4g} confidence ({sample})"
    )


def done(task: Mapping[str, Any], found: Mapping[str, Any]) -> str:
    """What a smaller model did in a night.

    Args:
        task: the task as JSON.
        found: its `FirstNumbers` as JSON.
    """
    measured = task["first"]["measured"]
    if measured is not None and measured["threshold"] is None:
        return str(measured["why"])
    if not found["rows"]:
        return "no rows were computed"
    text = f"answered {found['answered'] / found['rows']:.1%} of {count(found['rows'], 'row')}"
    if found["checked"]:
        text += f"; {found['checked']:,} answers were checked, {found['agreed'] / found['checked']:.2%} of them agreed"
    if found["refuted"]:
        text += "; stopped, because that is too few; the next run measures the threshold again"
    return text
