"""The files of a folder that becomes deployments; found without Prefect, whose import takes seconds."""

from __future__ import annotations

from pathlib import Path

from transforms.errors import SpecError


def files(folder: Path) -> list[Path]:
    """The YAML files below a folder, in the order of their paths.

    Raises:
        SpecError: there is none.
    """
    if found := sorted([*folder.rglob("*.yaml"), *folder.rglob("*.yml")]):
        return found
    what = "has no job file" if folder.is_dir() else "is not a folder"
    raise SpecError(f"{str(folder)!r} {what}; put a job file there, or name another folder with --specs")
