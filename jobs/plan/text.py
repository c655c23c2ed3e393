"""A plan as lines of text for a person at a terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from jobs.plan import Plan
from jobs.plan.hub_requests import expected
from jobs.plan.task import TaskPlan
from jobs.report import first
from jobs.report.shown import adapters, count


def lines(plan: Plan, asked: int = 0) -> list[tuple[str, str]]:
    """(name, value) of everything that a person wants to know before a run.

    Args:
        plan: the plan.
        asked: requests to the Hub that planning took.
    """
    files = len({shard.key for shard in plan.shards})
    done = len(plan.shards) - len(plan.todo)
    pruned = f", {count(plan.source.pruned, 'file')} ruled out by source.where" if plan.source.pruned else ""
    shown = [
        ("job", plan.spec.name),
        ("source", f"{_origin(plan)}: {count(files, 'file')} in {count(len(plan.shards), 'shard')}{pruned}"),
        ("columns", ", ".join(f"{field.name} ({field.type})" for field in plan.schema)),
    ]
    shown += [(f"task {task.spec.task}", task_text(task)) for task in plan.tasks]
    reasons = Counter(plan.todo.values()).most_common()
    only = f": {reasons[0][0]}" if len(reasons) == 1 else ""
    shown.append(("sink", f"{plan.spec.sink.shown}: {count(done, 'shard')} done, {len(plan.todo):,} to do{only}"))
    shown += [("", f"{count(n, 'shard')} to do: {why}") for why, n in reasons if not only]
    shown.append(("rows to do", _rows(plan)))
    if plan.spec.runner.is_here and plan.todo:
        # Imported here, because pages are made of plans that nothing executes.
        from jobs.models import calibration
        from jobs.runners import split

        settled, batches = calibration.known(plan)
        shown.append(("processes", split.expected(settled)))
        shown += [("batches", line) for line in batches if settled.tasks != plan.tasks]
    if (requests := expected(plan)) is not None:
        before = f", after {asked:,} for this plan" if asked else ""
        shown.append(("Hub", f"about {count(requests, 'request')}{before}"))
    if plan.removals:
        rows = count(sum(plan.removals.values()), "row")
        shown.append(("to remove", f"{rows} of {count(len(plan.removals), 'source file')} that are gone"))
    return shown


def text(plan: Plan, asked: int = 0, notes: Iterable[str] = ()) -> str:
    """The plan as text, one line per value; arguments as of `lines`, and sentences to end with."""
    shown = [*lines(plan, asked), *(("note", each) for each in notes)]
    width = max(14, *(len(what) + 2 for what, _ in shown))
    return "\n".join(f"{what:<{width}}{value}" for what, value in shown)


def task_text(task: TaskPlan) -> str:
    """A task in one line: `into sentiment, org/model version 9a91c0de, precision float32`."""
    parts = [f"into {task.spec.into}"]
    parts += [f"{pin.name} version {pin.commit[:12]}" for pin in (task.model, task.adapter) if pin is not None]
    if task.adapters:
        parts.append(adapters(str(task.spec.adapter_column), task.to_json()["adapters"]))
    if task.model is not None:
        chosen = task.spec.dtype == "auto" != task.dtype
        parts.append(f"precision {task.dtype}" + (" (chosen for this machine)" if chosen else ""))
    if task.first is not None:
        parts.append(first.planned(task.to_json()))
    return ", ".join(parts)


def _origin(plan: Plan) -> str:
    if plan.spec.source.table is not None:
        return f"{plan.spec.source.table} at version {plan.source.spec.version}"
    path = plan.spec.source.path or plan.spec.source.dataset
    return ", ".join(path) if isinstance(path, list) else str(path)


def _rows(plan: Plan) -> str:
    if plan.rows_expected is None:
        return "unknown until the source is read"
    return f"{'' if plan.rows_todo is not None else 'about '}{plan.rows_expected:,}"
