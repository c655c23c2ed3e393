"""The code of a plan's tasks and of its prepare function: every machine must have what the run was planned with."""

from __future__ import annotations

from jobs.plan import Plan, task_plans
from jobs.source import prepare
from transforms.errors import RunError


def check(plan: Plan) -> None:
    """Refuse to execute a plan with another version of a task, or of its prepare function, than it was planned with.

    Raises:
        RunError: a module differs on this machine.
    """
    _check_prepare(plan)
    _check_tasks(plan)


def _check_prepare(plan: Plan) -> None:
    """Refuse to execute a plan with another version of its prepare function.

    Raises:
        RunError: the module differs on this machine.
    """
    reference = plan.spec.source.prepare
    if reference is not None and prepare.version(reference) != plan.prepare_version:
        raise RunError(
            f"source.prepare {reference!r} is not the version that the run was planned with; install the same module "
            f"on every machine, or plan again"
        )


def _check_tasks(plan: Plan) -> None:
    """Refuse to execute a plan with another version of one of its tasks.

    Raises:
        RunError: a module differs on this machine.
    """
    planned = dict(plan.fingerprint.tasks)
    for into, here in task_plans.hashes(plan.tasks, plan.source.schema):
        if planned.get(into) != here:
            name = next(task.spec.task for task in plan.tasks if task.spec.into == into)
            raise RunError(
                f"task {name!r} is not the version that the run was planned with; install the same module on every "
                "machine, or plan again"
            )
