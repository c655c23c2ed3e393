"""What another version would change in a job: its task with two versions of a registry, on the job's own rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from jobs import source
from jobs.evaluation.diff import Diff, diff
from jobs.evaluation.predict import Prepared, predict
from jobs.plan import needed, task_plans
from jobs.plan.task import TaskPlan
from jobs.registry import Registry, Version, parse
from jobs.source.sample import sample
from jobs.spec import JobSpec
from transforms.errors import SpecError
from transforms.options import column_kinds

BASE = "base"


@dataclass(frozen=True)
class Served:
    """A task of a job that takes its adapter, or its whole model, from a registry.

    Attributes:
        number: its place among the tasks.
        key: adapter or model.
        registry: the registry.
    """

    number: int
    key: Literal["adapter", "model"]
    registry: Registry


@dataclass(frozen=True)
class Changes:
    """Two versions on the rows of a job.

    Attributes:
        into: the column of the task.
        before: the version that stands for the champion, or base.
        after: the version that stands for the challenger, or base.
        unreadable: rows that could not be read, and were not compared.
        diff: what changes.
    """

    into: str
    before: str
    after: str
    unreadable: int
    diff: Diff

    def text(self) -> str:
        """Plain text for a terminal."""
        unread = f"; {self.unreadable:,} more could not be read" if self.unreadable else ""
        return f"{self.into}: {self.before} -> {self.after}{unread}\n{self.diff.text()}"

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        names = {"column": self.into, "before": self.before, "after": self.after, "rows_unreadable": self.unreadable}
        return names | self.diff.to_json()


def served(job: JobSpec, url: str | None = None, into: str | None = None) -> Served:
    """The task whose versions are compared.

    Args:
        job: the job.
        url: its registry; None if the job names only one.
        into: its column; None if only one task takes versions from the registry.

    Raises:
        SpecError: there is no such task, or there are several.
    """
    every = list(_all_served(job))
    wanted = None if url is None else Registry(url, "REGISTRY")
    found = [one for one in every if wanted is None or _same(one.registry, wanted)]
    if not found:
        others = ", ".join(dict.fromkeys(one.registry.url for one in every))
        what = "a registry" if url is None else f"registry {url!r}"
        names = f"registries that it names: {others}" if others else "it names none"
        raise SpecError(f"job {job.name!r} has no task that takes its adapter from {what}; {names}")
    columns = [job.tasks[one.number].into for one in found]
    if into is not None:
        found = [one for one, column in zip(found, columns, strict=True) if column == into]
    if len(found) != 1:
        what = (
            f"--column is {into!r}, which is no column with an adapter of a registry"
            if into is not None
            else f"job {job.name!r} has {len(columns)} tasks with an adapter of a registry; choose one with --column"
        )
        raise SpecError(f"{what}; columns: {', '.join(columns)}")
    return found[0]


def changes(job: JobSpec, task: Served, versions: tuple[str, str], rows: int, examples: int = 20) -> Changes:
    """Compute a task with two versions as the job would, and compare what they give.

    Args:
        job: the job; nothing is written to its sink.
        task: one of its tasks.
        versions: two of the registry, each by its name or first digits, `champion`, or `base` for the base model.
        rows: rows of the job's source to compare; see `jobs.source.sample`.
        examples: rows to show.

    Raises:
        UserError: a version does not exist or does not fit the job, or the source has no rows.
        SourceError: a file cannot be read.
    """
    before, after = (_version(task.registry, name) for name in versions)
    if before == after:
        name = BASE if before is None else before.version
        raise SpecError(f"{versions[0]!r} and {versions[1]!r} are both {name}; name two versions")
    kinds = [pair for item in job.tasks for pair in column_kinds(item.options)]
    texts = {column for column, kind in kinds if kind == "text"}
    planned, shards = source.plan(job.source, outside=job.sink.path, texts=texts)
    jobs = [_with(job, task, version, other) for version, other in ((before, after), (after, before))]
    # Both are checked before rows are read and weights are loaded.
    plans = [task_plans.resolve(each, planned.schema, {})[0] for each in jobs]
    found = sample(planned, shards, rows)
    if not len(found.rows):
        raise SpecError(f"the source of job {job.name!r} has no rows to compare; check source.path and source.where")
    table = _with_columns(found.rows, plans[0], task.number)
    one, other = (
        predict(Prepared(task_plans.choose(tasks[task.number], task.number, is_here=True), table)).values
        for tasks in plans
    )
    read = job.tasks[task.number].reads[0]
    shown = read if read in table.schema.names else None
    names = [BASE if version is None else version.version for version in (before, after)]
    result = diff(table, one, other, examples, column=shown)
    return Changes(job.tasks[task.number].into, names[0], names[1], found.unreadable, result)


def _all_served(job: JobSpec) -> Sequence[Served]:
    keys: tuple[Literal["adapter", "model"], ...] = ("adapter", "model")
    named = [(i, key, getattr(item, key)) for i, item in enumerate(job.tasks) for key in keys]
    parsed = [(i, key, parse(reference)) for i, key, reference in named if reference is not None]
    return [Served(i, key, Registry(found[0], f"tasks.{i}.{key}")) for i, key, found in parsed if found is not None]


def _same(one: Registry, other: Registry) -> bool:
    return (one.store.fs, one.store.root) == (other.store.fs, other.store.root)


def _version(registry: Registry, name: str) -> Version | None:
    return None if name == BASE else registry.named(name)


def _with(job: JobSpec, task: Served, version: Version | None, other: Version | None) -> JobSpec:
    """The job with a version in the place of the one that it names; with None the base, of the other version."""
    if version is not None:
        update: dict[str, Any] = {task.key: f"{task.registry.url}@{version.version}"}
    elif task.key == "adapter":
        update = {"adapter": None}
    else:
        assert other is not None
        update = {"model": other.base.model, "revision": other.base.commit}
    tasks = list(job.tasks)
    tasks[task.number] = tasks[task.number].model_copy(update=update)
    return job.model_copy(update={"tasks": tasks})


def _with_columns(table: pa.Table, tasks: Sequence[TaskPlan], number: int) -> pa.Table:
    """The rows with the columns of earlier tasks that the task reads, directly or through others."""
    for task in needed.before(tasks[number], tasks):
        i = tasks.index(task)
        values = predict(Prepared(task_plans.choose(task, i, is_here=True), table)).values
        table = table.append_column(task.spec.into, values)
    return table
