"""Which tasks there are: a task is a module in transforms/tasks/, and its file name is the task's name."""

from __future__ import annotations

import importlib
import pkgutil

from transforms import tasks
from transforms.contract import Task
from transforms.errors import SpecError


def names() -> list[str]:
    """The built-in tasks, by file name."""
    return sorted(module.name for module in pkgutil.iter_modules(tasks.__path__))


def get(name: str) -> Task:
    """The task module of that name.

    Raises:
        SpecError: there is no such task.
    """
    if name not in names():
        raise SpecError(f"task {name!r} is not known; tasks: {', '.join(names())}")
    return importlib.import_module(f"{tasks.__name__}.{name}")
