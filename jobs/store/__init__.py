"""A folder of a lake, local or any fsspec URL, with what a ledger needs: a file is put whole or not at all.

On a local disk that is a temporary file and a rename; on an object store one request, which such stores make atomic.
"""

from __future__ import annotations

import errno
import os
import tempfile
import uuid
from pathlib import Path

import fsspec
from fsspec.implementations.local import LocalFileSystem

from jobs.store import names
from transforms.errors import SinkError


class Store:
    """Files below one folder, named by their path relative to it.

    Args:
        url: folder, or fsspec URL of one; need not exist yet.
    """

    def __init__(self, url: str):
        self.url = os.path.expanduser(url)
        self.fs, self.root = fsspec.core.url_to_fs(self.url)
        self.local = isinstance(self.fs, LocalFileSystem)

    def path(self, name: str) -> str:
        """Path of a file within its filesystem."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none where there is no folder."""
        self.fs.invalidate_cache()
        try:
            found = self.fs.ls(self.path(folder), detail=False)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(f"{folder}/{name.rstrip('/').rsplit('/', 1)[-1]}" for name in found)

    def find(self, ending: str) -> list[str]:
        """Names of all files below the store that end like this, sorted."""
        self.fs.invalidate_cache()
        prefix = self.root.rstrip("/") + "/"
        return sorted(name[len(prefix) :] for name in self.fs.find(self.root) if name.endswith(ending))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self.fs.exists(self.path(name))

    def get(self, name: str) -> bytes:
        """The content of a file."""
        return self.fs.cat_file(self.path(name))

    def put(self, name: str, content: bytes) -> None:
        """Write a small file, whole or not at all."""
        temporary = self.temporary()
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
            self.publish(temporary, name)
        finally:
            temporary.unlink(missing_ok=True)

    def temporary(self) -> Path:
        """A path for a file to be published later: on the same disk where the store is local."""
        if not self.local:
            return Path(tempfile.gettempdir()) / f"nightscribe-{uuid.uuid4().hex}"
        folder = Path(self.path(names.TEMPORARY))
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def publish(self, temporary: Path, name: str) -> None:
        """Move a finished local file to its place, over any older version, whole or not at all."""
        target = self.path(name)
        if not self.local:
            self.fs.put_file(str(temporary), target)
            return
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        os.makedirs(os.path.dirname(target), exist_ok=True)
        os.replace(temporary, target)

    def move(self, name: str, to: str) -> None:
        """Give a file another name, over any file that has it; without effect if it was moved before."""
        if not self.exists(name):
            return
        if self.local:
            os.makedirs(os.path.dirname(self.path(to)), exist_ok=True)
            os.replace(self.path(name), self.path(to))
        else:
            self.fs.cp_file(self.path(name), self.path(to))
            self.fs.rm_file(self.path(name))

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        if self.exists(name):
            self.fs.rm_file(self.path(name))

    def clear_temporary(self) -> None:
        """Delete what killed runs left half written; only the holder of the lock may call this."""
        if self.local:
            for name in self.names(names.TEMPORARY):
                Path(self.path(name)).unlink(missing_ok=True)


def explain(error: OSError, url: str) -> SinkError:
    """An operating system's complaint about a sink as one sentence with the fix."""
    fix = {
        errno.ENOSPC: "the disk is full; free some space and run again, finished shards are kept",
        errno.EDQUOT: "the quota is used up; free some space and run again, finished shards are kept",
        errno.EACCES: "permission denied; make the folder writable for this user, or choose another sink.path",
        errno.EPERM: "permission denied; make the folder writable for this user, or choose another sink.path",
        errno.EROFS: "the file system is read-only; choose another sink.path",
        errno.ENOTDIR: "a file stands where a folder should be; choose another sink.path",
        errno.EEXIST: "a file stands where a folder should be; choose another sink.path",
    }.get(error.errno or 0, str(error))
    return SinkError(f"sink.path {url!r} cannot be written: {fix}")
