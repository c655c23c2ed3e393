"""The version of local weights: a hash of a folder.

The hash of a large file is kept in the user's cache, so that later nights do not read the weights again to see that
they are the same. It is found by all that changes when a file is written or replaced: its path, device, inode and size,
and the times of its last change, of which programs cannot set the second one (`st_ctime`).
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from transforms import user_cache

LOG = logging.getLogger(__name__)

# Smaller files are read faster than it takes to trust a cache.
LARGE = 8 << 20
# A file that changed less than this before it was read may change again without another time on it.
SETTLED_S = 5.0
THREADS = 4


def digest(folder: str | Path) -> str:
    """A hash of the names and contents of all files below a folder: the version of local weights."""
    total = hashlib.sha256()
    root = Path(folder)
    files = sorted(path for path in root.rglob("*") if path.is_file() and ".git" not in path.parts)
    with ThreadPoolExecutor(THREADS, "hash") as threads:
        for file, content in zip(files, threads.map(_hash, files), strict=True):
            total.update(file.relative_to(root).as_posix().encode() + b"\0")
            total.update(content)
    return total.hexdigest()[:40]


@contextmanager
def ahead(folders: Iterable[str | Path]) -> Iterator[None]:
    """Hash folders in another thread while the block runs; `digest` finds the hashes of their files afterwards."""

    def hash_all() -> None:
        for folder in folders:
            try:
                digest(folder)
            except OSError as error:
                # Whoever asks for this hash is told the same.
                LOG.debug("%s cannot be read: %s", folder, error)

    thread = threading.Thread(target=hash_all, name="hash", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _hash(file: Path) -> bytes:
    """The hash of one file."""
    found = file.stat()
    about = (os.path.realpath(file), found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    return _of(file, about)


@cache
def _of(file: Path, about: tuple[str | int, ...]) -> bytes:
    """The hash of one file; a run needs it for the plan and for loading."""
    if file.stat().st_size < LARGE:
        return _read(file)
    kept = user_cache.folder("digests") / hashlib.sha256(repr(about).encode()).hexdigest()
    try:
        content = kept.read_bytes()
    except OSError:
        content = b""
    if len(content) == hashlib.sha256().digest_size:
        return content
    begun = time.time()
    content = _read(file)
    if begun - file.stat().st_ctime > SETTLED_S:
        try:
            user_cache.write(kept, content)
        except OSError as error:
            LOG.info("%s cannot be written, so %s is hashed again next time: %s", kept, file, error.strerror)
    return content


def _read(file: Path) -> bytes:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").digest()
