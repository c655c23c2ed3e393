"""The available tasks: modules in transforms/tasks/, by file name, and importable modules of the user."""

from __future__ import annotations

import functools
import importlib
import pkgutil

from transforms import custom, tasks
from transforms.contract import Task
from transforms.errors import SpecError


def names() -> list[str]:
    """The built-in tasks, by file name."""
    return list(_names(tuple(tasks.__path__)))


@functools.cache
def _names(folders: tuple[str, ...]) -> tuple[str, ...]:
    # Once for each path: a run asks for every shard.
    return tuple(sorted(module.name for module in pkgutil.iter_modules(folders)))


def exists(name: str) -> bool:
    """Whether there is a built-in task, or an importable module, of that name."""
    return name in names() or custom.exists(name)


def get(name: str) -> Task:
    """The task of that name.

    Args:
        name: name of a built-in task, or dotted name of an importable module with the interface of a task.

    Raises:
        SpecError: there is no such task, or the module lacks the interface of a task.
    """
    if name in names():
        return importlib.import_module(f"{tasks.__name__}.{name}")
    if not custom.exists(name):
        raise SpecError(
            f"task {name!r} is not known; tasks: {', '.join(names())}, or a module of your own that Python can import, "
            "such as my_package.redact"
        )
    return custom.CustomTask(name)


def version(name: str) -> int | str:
    """A value that changes whenever a task's output may change; for a custom module it depends on the source.

    Raises:
        SpecError: as `get`.
    """
    task = get(name)
    return task.version if isinstance(task, custom.CustomTask) else task.VERSION
