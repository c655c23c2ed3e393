"""A folder of a lake, local or any fsspec URL, with atomic writes: a file is written completely or not at all.

On a local disk that is a temporary file and a rename; on an object store one request, which such stores make atomic.
Writes that depend on the existing file are in `conditional`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import ClassVar

from jobs.store import conditional, names, s3
from jobs.store.complaint import explain
from jobs.store.fencing import Fence
from jobs.store.reading import Reader
from transforms.errors import SpecError

__all__ = ["Content", "Store", "check", "explain"]


# What a file is to hold: bytes, those of a local file, or what follows from its present content (None without one).
Content = bytes | Path | Callable[[bytes | None], bytes]


class Store(Reader):
    """Files below one folder that are read and written; arguments and errors are those of `Reader`.

    Attributes:
        on_hub: whether it is a repository of the Hub, where `put_all` is one commit.
        lease_s: how long a lease of it lasts without being renewed.
        fence: asked before each change, see `jobs.store.lease`; None: anyone may change it.
        model_repository: org/name if it is a whole repository of models; its README.md is a model card.
    """

    on_hub: ClassVar[bool] = False
    lease_s: ClassVar[float] = 60.0
    model_repository: str | None = None
    fence: Fence | None = None

    def put(self, name: str, content: bytes) -> None:
        """Write a small file atomically."""
        temporary = self.temporary()
        try:
            with temporary.open("wb") as stream:
                stream.write(content)
            self.publish(temporary, name)
        finally:
            temporary.unlink(missing_ok=True)

    def append(self, name: str, content: bytes) -> None:
        """Add to a file of a local store, which is made if need be; what is added survives a crash of the machine."""
        with self._explained(), self._fenced():
            os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
            with open(self.path(name), "ab", buffering=0) as stream:
                stream.write(content)
                os.fsync(stream.fileno())

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Write a small file unless it exists; of several concurrent writers one succeeds.

        Returns:
            Whether the file holds this content because it was absent.

        Raises:
            SinkError: the store has no conditional writes.
        """
        with self._explained():
            if not self.local:
                with self._fenced():
                    return conditional.put_if_absent(self.fs, self.path(name), content)
            with conditional.local_lock(self.path(names.CONDITIONAL_LOCK)):
                if os.path.exists(self.path(name)):
                    return False
                self.put(name, content)
                return True

    def put_if_match(self, name: str, content: bytes, version: str) -> bool:
        """Replace a small file unless it changed since `get_versioned` gave that version.

        Returns:
            Whether it was replaced.

        Raises:
            SinkError: the store has no conditional writes.
        """
        with self._explained():
            if not self.local:
                return conditional.put_if_match(self.fs, self.path(name), content, version)
            with conditional.local_lock(self.path(names.CONDITIONAL_LOCK)):
                if (found := self.get_versioned(name)) is None or found[1] != version:
                    return False
                self.put(name, content)
                return True

    def put_all(
        self, files: Mapping[str, Content | None], message: str, only_if: tuple[str, str | None] | None = None
    ) -> bool:
        """Write several files: on the Hub in one commit, elsewhere one after the other in their order.

        Args:
            files: name -> content; None deletes a file.
            message: what the commit is for.
            only_if: one of the files, and the version that it must still have, as `get_versioned` gave it; None if it
                must not exist yet. Otherwise neither this file nor those after it are written.

        Returns:
            Whether they are written.

        Raises:
            SinkError: the store cannot be written, or has no conditional writes and `only_if` needs them.
        """
        for name, content in files.items():
            if callable(content):
                found = self.get_versioned(name)
                content = content(None if found is None else found[0])
            if content is None:
                self.delete(name)
            elif isinstance(content, Path):
                temporary = self.temporary()
                try:
                    shutil.copyfile(content, temporary)
                    self.publish(temporary, name)
                finally:
                    temporary.unlink(missing_ok=True)
            elif only_if is None or name != only_if[0]:
                self.put(name, content)
            elif not (
                self.put_if_absent(name, content)
                if only_if[1] is None
                else self.put_if_match(name, content, only_if[1])
            ):
                return False
        return True

    def temporary(self) -> Path:
        """A path for a file to be published later: on the same disk where the store is local."""
        if not self.local:
            return Path(tempfile.gettempdir()) / f"nightscribe-{uuid.uuid4().hex}"
        folder = self._temporary_folder()
        folder.mkdir(parents=True, exist_ok=True)
        return folder / uuid.uuid4().hex

    def scratch(self, run_id: str) -> Path:
        """A folder on this machine for files that a run needs until it ends; `clear_temporary` deletes it."""
        return self._temporary_folder() / run_id

    def publish(self, temporary: Path, name: str) -> None:
        """Move a finished local file to its place atomically, replacing any older version."""
        target = self.path(name)
        if not self.local:
            with self._explained(), self._fenced():
                try:
                    self._upload(temporary, target)
                except FileNotFoundError as error:
                    raise explain(error, self.url, self.key) from error
            return
        with self._fenced():
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.makedirs(os.path.dirname(target), exist_ok=True)
            os.replace(temporary, target)

    def move(self, name: str, to: str) -> None:
        """Give a file another name, over any file that has it; no effect if it was moved before."""
        if self.local:
            os.makedirs(os.path.dirname(self.path(to)), exist_ok=True)
            with suppress(FileNotFoundError):
                os.replace(self.path(name), self.path(to))
            return
        with self._explained(), self._fenced():
            if self.exists(name):
                self.fs.cp_file(self.path(name), self.path(to))
                self.fs.rm_file(self.path(name))

    def copy(self, name: str, to: str) -> None:
        """Give a file a second name; on a local disk without copying its bytes, where that is possible."""
        if not self.local:
            with self._explained():
                self.fs.cp_file(self.path(name), self.path(to))
            return
        temporary = self.temporary()
        try:
            os.link(self.path(name), temporary)
        except OSError:
            # A file system without hard links.
            shutil.copyfile(self.path(name), temporary)
        os.makedirs(os.path.dirname(self.path(to)), exist_ok=True)
        os.replace(temporary, self.path(to))

    def delete(self, name: str) -> None:
        """Delete a file if it is there."""
        with self._explained(), self._fenced(), suppress(FileNotFoundError):
            if self.local:
                os.unlink(self.path(name))
            elif s3.is_s3(self.fs) or self.exists(name):
                self.fs.rm_file(self.path(name))

    def delete_all(self, folder: str) -> None:
        """Delete every file below a folder, and on a local disk the folder."""
        for name in self.find("", folder):
            self.delete(name)
        if self.local:
            shutil.rmtree(self.path(folder), ignore_errors=True)

    def clear_temporary(self) -> None:
        """Delete temporary files of this machine's runs; only the holder of the lease may call this."""
        with suppress(FileNotFoundError):
            for path in self._temporary_folder().iterdir():
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)

    def _temporary_folder(self) -> Path:
        """Where files of runs into this store are until they are published, or until the run ends."""
        if self.local:
            return Path(self.path(names.TEMPORARY))
        # Of this store and user alone, because every file in it is deleted by the next run.
        name = hashlib.sha256(f"{self.url} {Path.home()}".encode()).hexdigest()[:16]
        return Path(tempfile.gettempdir()) / f"nightscribe-{name}"

    def _upload(self, temporary: Path, target: str) -> None:
        """Write an object in one request, or a large one in parts, of which nothing is seen before the last request."""
        try:
            self.fs.put_file(str(temporary), target)
        except FileNotFoundError as error:
            if not s3.is_lost_upload(error):
                raise
            self.fs.put_file(str(temporary), target)

    @contextmanager
    def _fenced(self) -> Iterator[None]:
        """A change, and all repeated requests for it, are made only as long as this process may write."""
        if self.fence is None:
            yield
            return
        self.fence.secure()
        with s3.repeated_only_while(self.fence.is_trusted):
            yield


def check(store: Store) -> None:
    """Refuse a store that cannot hold a sink, before anything is written.

    Raises:
        SpecError: it has no conditional writes, so that two runs could write at once.
    """
    if not store.local and not store.on_hub and not conditional.is_supported(store.fs):
        raise SpecError(
            f"sink.path {store.url!r} is on a filesystem without conditional writes, so two runs could write "
            f"at the same time; use a local folder, s3://, gs:// or abfs://, and copy the rows from there"
        )
