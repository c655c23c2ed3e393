"""Reads files of a folder of a lake, local or any fsspec URL; errors of filesystem libraries become one sentence."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from fsspec.implementations.local import LocalFileSystem

from jobs.store import age, conditional, s3
from jobs.store.complaint import explain
from jobs.store.filesystem import open_filesystem
from transforms.errors import NightscribeError, SpecError


class Reader:
    """Files below one folder, named by their path relative to it.

    Args:
        url: folder, or fsspec URL of one; need not exist yet.
        key: the key that names it in a job or training file, for the error.

    Raises:
        SpecError: no such kind of URL, or its filesystem library is not installed.
    """

    def __init__(self, url: str, key: str = "sink.path"):
        self.key = key
        self.url = os.path.expanduser(url)
        self.fs: Any
        self.root: str
        try:
            # A name with `::` is a chain of filesystems to fsspec; a local folder may be called so.
            is_url = "://" in self.url
            self.fs, self.root = open_filesystem(self.url) if is_url else (LocalFileSystem(), os.path.abspath(self.url))
        except (ImportError, ValueError) as error:
            raise SpecError(
                f"{key} {url!r} cannot be opened: {error}; give a local folder, or a URL such as "
                f"s3://bucket/folder whose filesystem library is installed"
            ) from error
        except Exception as error:
            # Errors of filesystem libraries for wrong options and credentials.
            raise explain(error, self.url, self.key) from error
        self.local = isinstance(self.fs, LocalFileSystem)

    @property
    def offline(self) -> bool:
        """Whether the environment forbids to ask for it."""
        return False

    @property
    def can_match(self) -> bool:
        """Whether it has `put_if_match`."""
        return self.local or conditional.can_match(self.fs)

    def age_s(self, name: str) -> float | None:
        """Seconds since a file was written, by the clock of the store; None if it has none that can be asked."""
        if self.local:
            return max(0.0, time.time() - os.stat(self.path(name)).st_mtime)
        with self._explained():
            return age.of(self.fs, self.path(name))

    def path(self, name: str) -> str:
        """Path of a file within its filesystem."""
        return f"{self.root.rstrip('/')}/{name}"

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none if the folder does not exist."""
        with self._explained():
            self.fs.invalidate_cache()
            try:
                path = self.path(folder)
                found = s3.names(self.fs, path) if s3.is_s3(self.fs) else self.fs.ls(path, detail=False)
            except (FileNotFoundError, NotADirectoryError):
                return []
        return sorted(f"{folder}/{name.rstrip('/').rsplit('/', 1)[-1]}" for name in found)

    def versions(self, folder: str) -> dict[str, str]:
        """The files in a folder by name, each with a version that changes with its content: one request."""
        with self._explained():
            self.fs.invalidate_cache()
            try:
                found = self.fs.ls(self.path(folder), detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return {}
        files = sorted((each for each in found if each["type"] == "file"), key=lambda each: each["name"])
        return {f"{folder}/{each['name'].rsplit('/', 1)[-1]}": conditional.listed_version(each) for each in files}

    def find(self, ending: str | tuple[str, ...], folder: str = "") -> list[str]:
        """Names of all files below the store, or below a folder of it, that end like this or one of these, sorted."""
        prefix = self.root.rstrip("/") + "/"
        with self._explained():
            self.fs.invalidate_cache()
            top = self.path(folder).rstrip("/")
            # Five times as fast as fsspec, which asks for the size of each file.
            found = _walk(top) if self.local else self.fs.find(top)
        return sorted(name[len(prefix) :] for name in found if name.endswith(ending))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        with self._explained():
            path = self.path(name)
            return s3.exists(self.fs, path) if s3.is_s3(self.fs) else bool(self.fs.exists(path))

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        with self._explained():
            return cast(BinaryIO, self.fs.open(self.path(name), "rb"))

    def get(self, name: str) -> bytes:
        """The content of a file.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        with self._explained():
            return cast(bytes, self.fs.cat_file(self.path(name)))

    def get_versioned(self, name: str) -> tuple[bytes, str] | None:
        """The content of a file and its version, which `put_if_match` takes; None if there is no such file."""
        with self._explained():
            return conditional.get_versioned(self.fs, self.path(name))

    def download(self, name: str, target: Path) -> None:
        """Copy a file to this machine.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        with self.open(name) as stream, target.open("wb") as copy:
            shutil.copyfileobj(stream, copy)

    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            FileNotFoundError: it does not exist.
        """
        with self._explained():
            return int(self.fs.size(self.path(name)))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn an error of the system or a filesystem library into one sentence; FileNotFoundError stays unchanged."""
        try:
            yield
        except (NightscribeError, FileNotFoundError):
            raise
        except Exception as error:
            raise explain(error, self.url, self.key) from error


def _walk(folder: str) -> list[str]:
    return [f"{path}/{name}" for path, _, found in os.walk(folder) for name in found]
