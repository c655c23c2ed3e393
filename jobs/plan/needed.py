"""Which tasks have to be computed before another one can be."""

from __future__ import annotations

from collections.abc import Sequence

from jobs.plan.task import TaskPlan
from transforms.options import column_of


def before(task: TaskPlan, tasks: Sequence[TaskPlan]) -> list[TaskPlan]:
    """The tasks before one whose columns it reads, directly or through others, in order.

    Args:
        task: one of the tasks.
        tasks: the tasks of a job.
    """
    needed: list[TaskPlan] = []
    names = {each.spec.into for each in tasks}
    read = set(task.spec.reads)
    place = next(i for i, each in enumerate(tasks) if each.spec.into == task.spec.into)
    for each in reversed(tasks[:place]):
        if not task.spec.reads or each.spec.into in {column_of(column, names) for column in read}:
            needed.insert(0, each)
            read |= set(each.spec.reads)
    return needed
