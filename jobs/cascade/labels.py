"""Whether two models can give the same answers: a smaller model fits a task if it has the labels of the task's own."""

from __future__ import annotations

from jobs.plan import task_plans
from jobs.plan.task import TaskPlan
from transforms import heads
from transforms.errors import ModelError, UserError

SHOWN = 8


def check(task: TaskPlan) -> None:
    """Refuse a smaller model that cannot answer what the task's model answers.

    Args:
        task: a task with `first`.

    Raises:
        ModelError: it has other labels, gives another kind of result, or either model gives numbers.
    """
    small = task.small
    assert small is not None
    large_config = task_plans.configured(task.large)
    try:
        config = task_plans.configured(small)
    except UserError as error:
        raise type(error)(f"first: {error}") from error
    # Any model of natural language inference scores any labels.
    if task.spec.task == "zero_shot":
        return
    if "regression" in (config.problem_type, large_config.problem_type):
        raise ModelError("first is for models that give labels, and a regression gives numbers; leave out first")
    mine, theirs = heads.labels(config), heads.labels(large_config)
    if set(mine) != set(theirs):
        raise ModelError(
            f"first.model has the labels {_shown(mine)}, and model has {_shown(theirs)}; both need the same labels, in "
            "any order"
        )
    several = [each.problem_type == "multi_label_classification" for each in (config, large_config)]
    if several[0] != several[1]:
        kinds = config.problem_type, large_config.problem_type
        raise ModelError(
            f"first.model has problem_type {kinds[0]} and model {kinds[1]} in config.json; both have to give one "
            "label, or both several"
        )


def _shown(labels: list[str]) -> str:
    return ", ".join(sorted(labels)[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
