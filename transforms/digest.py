"""The version of local weights: a hash of a folder."""

from __future__ import annotations

import hashlib
from pathlib import Path


def digest(folder: str | Path) -> str:
    """A hash of every file below a folder, names and contents: the version of local weights."""
    total = hashlib.sha256()
    root = Path(folder)
    for file in sorted(path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts):
        total.update(file.relative_to(root).as_posix().encode() + b"\0")
        with file.open("rb") as stream:
            total.update(hashlib.file_digest(stream, "sha256").digest())
    return total.hexdigest()[:40]
