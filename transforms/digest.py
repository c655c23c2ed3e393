"""The version of local weights: a hash of a folder."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path


def digest(folder: str | Path) -> str:
    """A hash of the names and contents of all files below a folder: the version of local weights."""
    total = hashlib.sha256()
    root = Path(folder)
    for file in sorted(path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts):
        stat = file.stat()
        total.update(file.relative_to(root).as_posix().encode() + b"\0")
        total.update(_content(file, stat.st_size, stat.st_mtime_ns))
    return total.hexdigest()[:40]


@cache
def _content(file: Path, size: int, mtime_ns: int) -> bytes:
    """The hash of one file; cached, because a run needs it for the plan and for loading, and files can be large."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
