"""Whether a version can be used for a key and a task of a job file."""

from __future__ import annotations

from jobs.registry.version import Version
from transforms import registry as tasks
from transforms.architecture import WRITERS
from transforms.errors import SpecError


def check(version: Version, key: str, reference: str, task: str, kind: str | None = None) -> None:
    """Refuse a version that was made for another kind of task, or that is no adapter (or no model).

    Args:
        version: what the reference names.
        key: its key in the job file, such as tasks.0.adapter.
        reference: the value of that key.
        task: the task that uses it.
        kind: model or adapter; by default the last part of the key.

    Raises:
        SpecError: with the fix.
    """
    wanted = kind or key.rpartition(".")[2]
    if version.kind != wanted:
        what = "an adapter" if version.kind == "adapter" else "a whole model"
        fix = (
            f"write it as adapter, beside `model: {version.base.model}`"
            if version.kind == "adapter"
            else "write it as model, without an adapter"
        )
        raise SpecError(f"{key} {reference!r} is version {version.version}, which is {what}; {fix}")
    if not _alike(version.task, task):
        raise SpecError(
            f"{key} {reference!r} is version {version.version}, which was trained for {version.task}, and the task is "
            f"{task}; use the registry of a training file with `task: {task}`"
        )


def _alike(trained: str, task: str) -> bool:
    """Whether two tasks load the same kind of network."""
    if trained == task:
        return True
    if not tasks.exists(trained):
        return False
    first, second = tasks.get(trained).ARCHITECTURE, tasks.get(task).ARCHITECTURE
    # A text generator can serve any of the tasks that generate; whether it fits the base is checked with the base.
    writers = all(str(each).rpartition(":")[2] in WRITERS for each in (first, second))
    return first == second or writers
