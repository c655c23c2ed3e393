"""Small files and footers of large ones, kept on this machine by the id of their blob, which never changes.

A process of a run finds here what the plan has read. The oldest are removed when all take more than LIMIT_BYTES.
"""

from __future__ import annotations

import os
import threading
from pathlib import Path

from jobs.hub import cache
from jobs.hub.session import endpoint

LIMIT_BYTES = 2 << 30
# The folder is looked through after so many bytes were added.
PRUNE_BYTES = LIMIT_BYTES // 16

_LOCK = threading.Lock()
_added = PRUNE_BYTES


def get(repository: str, kind: str, key: str) -> bytes | None:
    """What was kept, or None.

    Args:
        repository: org/name.
        kind: file, footer, layout, ...
        key: id of the blob, or another hash.
    """
    try:
        return _file(repository, kind, key).read_bytes()
    except FileNotFoundError:
        return None


def has(repository: str, kind: str, key: str) -> bool:
    """Whether something was kept."""
    return _file(repository, kind, key).exists()


def put(repository: str, kind: str, key: str, content: bytes) -> None:
    """Keep something; a cache that cannot be written costs requests and nothing else."""
    if not cache.keep(_file(repository, kind, key), content):
        return
    global _added
    with _LOCK:
        _added += len(content)
        due = _added >= PRUNE_BYTES
        _added = 0 if due else _added
    if due:
        prune(LIMIT_BYTES)


def remove(repository: str, kind: str, key: str) -> None:
    """Keep something no longer."""
    _file(repository, kind, key).unlink(missing_ok=True)


def prune(limit_bytes: int) -> None:
    """Remove the oldest until the others take at most 9/10 of `limit_bytes`; layouts and footers after all files."""
    files = []
    for folder, _, names in os.walk(cache.folder("blobs")):
        for name in names:
            path = os.path.join(folder, name)
            try:
                found = os.stat(path)
            except FileNotFoundError:
                # Another process removed it.
                continue
            files.append((f"{os.sep}file{os.sep}" not in path, found.st_mtime_ns, found.st_size, path))
    size = sum(each[2] for each in files)
    if size <= limit_bytes:
        return
    for _, _, bytes_, path in sorted(files):
        Path(path).unlink(missing_ok=True)
        size -= bytes_
        if size <= limit_bytes * 9 // 10:
            return


def _file(repository: str, kind: str, key: str) -> Path:
    # Of each Hub and repository its own: only a hash of the content is the same everywhere.
    return cache.folder("blobs", endpoint(), repository, kind, key[:2]) / key
