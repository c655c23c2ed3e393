"""This program's folder in the user's cache (`$XDG_CACHE_HOME/nightscribe`): what is in it can be had again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def folder(*names: str) -> Path:
    """A folder below it, which need not exist yet."""
    return Path(_home(), "nightscribe", *names)


def _home() -> Path:
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given)
    try:
        return Path.home() / ".cache"
    except RuntimeError:
        # A container with a number for a user, who has no home.
        return Path(tempfile.gettempdir()) / f"cache-{os.getuid()}"


def write(file: Path, content: bytes) -> None:
    """Write a file; other processes see it completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=file.parent, delete=False) as stream:
        stream.write(content)
    os.replace(stream.name, file)
