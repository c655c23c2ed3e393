"""A folder that a model or an adapter is written to as a whole."""

from __future__ import annotations

from pathlib import Path

from transforms.errors import ModelError


def check(folder: Path) -> None:
    """Refuse a folder that has files, which would be mixed with the new ones.

    Raises:
        ModelError: it has files, or is a file.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{str(folder)!r} exists and is not empty; give a folder that does not exist")
