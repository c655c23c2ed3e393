"""Before workers start: each model of a plan is complete, fits its task, and is on this machine."""

from __future__ import annotations

from jobs.plan import Plan
from transforms.errors import UserError


def check(plan: Plan, from_hub: bool = False) -> None:
    """Load the models of a plan without their weights, and set up their tasks.

    Nothing is checked if no shard is to do, nor a task that an earlier run loaded: the imports alone take seconds.

    Args:
        plan: what is to be executed.
        from_hub: look at the models that come from the Hub, which downloads them, instead of those in folders.

    Raises:
        UserError: a model or adapter folder is damaged or incomplete, or does not fit its task.
    """
    if not plan.todo:
        return
    for i, task in enumerate(plan.tasks):
        pins = task.pins
        if task.was_loaded or not pins or from_hub == all(pin.local for pin in pins):
            continue
        from transforms import lean

        lean.load()
        from transforms.rehearsal import rehearse

        for number, one in enumerate(task.each):
            try:
                rehearse(one.reference(), one.spec.task, one.spec.options)
            except UserError as error:
                raise type(error)(f"tasks.{i}{'.first' * number}: {error}") from error


def download(plan: Plan) -> None:
    """Bring the weights of all tasks to this machine, so that no worker asks the Hub or a registry for them.

    Raises:
        UserError: a model cannot be downloaded.
        UnreachableModel: the Hub does not answer now.
    """
    for task in plan.tasks if plan.todo else ():
        for one in task.each if task.model is not None else ():
            one.reference()
