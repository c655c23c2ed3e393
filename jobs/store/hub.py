"""A store in a repository of the Hub: each write is a commit that names its parent, so of two writers one succeeds.

Reads look at the newest commit. Small files are kept on this machine by the id of their content, large ones are in the
cache of huggingface_hub.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, is_offline_mode

from jobs.hub import download, snapshot
from jobs.hub.blob import Kind
from jobs.hub.commits import Commits, Operation
from jobs.hub.snapshot import Snapshot
from jobs.store import Content, Store
from transforms.errors import SpecError

URL = re.compile(r"hf://(?P<datasets>datasets/)?(?P<name>[\w.-]+/[\w.-]+)(?P<inside>(/[^/@]+)*)/?")
# First parts of URLs of other things that the Hub has.
OTHERS = ("buckets", "kernels", "models", "spaces")

# Files are read as they were so long ago at most. Whatever depends on the newest state looks again: `names`, `find`,
# `get_versioned` and every write.
LOOK_S = 1.0


class HubStore(Store):
    """Files of a repository, or below a folder of it. It is created, private, by the first write.

    Args:
        url: hf://org/name or hf://datasets/org/name, perhaps with a folder after it.
        key: the key that names it in a job or training file, for the error.

    Raises:
        SpecError: it is another URL.
    """

    on_hub = True
    # A renewal is a commit, so there are few.
    lease_s = 900.0

    def __init__(self, url: str, key: str = "sink.path"):
        found = URL.fullmatch(url)
        if found is None or found["name"].split("/")[0] in OTHERS:
            raise SpecError(
                f"{key} {url!r} names no repository of the Hub; write hf://org/name or hf://datasets/org/name, without "
                "a revision"
            )
        self.key, self.url = key, url.rstrip("/")
        self.fs, self.root, self.local = None, self.url, False
        self.kind: Kind = "dataset" if found["datasets"] else "model"
        self.repository = found["name"]
        self.folder = found["inside"].strip("/")
        self.model_repository = self.repository if self.kind == "model" and not self.folder else None
        self._commits = Commits(self.kind, self.repository, f"{key} {self.url!r}")
        self._seen: tuple[float, Snapshot] | None = None

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE forbids to ask the Hub."""
        return is_offline_mode()

    @property
    def can_match(self) -> bool:
        """Whether it has `put_if_match`."""
        return True

    def age_s(self, name: str) -> float | None:
        """Not known: the Hub says of commits only when they were made."""
        return None

    def path(self, name: str) -> str:
        """Path of a file in the repository."""
        return f"{self.folder}/{name}" if self.folder else name

    def names(self, folder: str) -> list[str]:
        """Names of the files in a folder, sorted; none if the folder does not exist."""
        inside = f"{self.path(folder)}/"
        found = {path[len(inside) :].split("/")[0] for path in self._look().files if path.startswith(inside)}
        return sorted(f"{folder}/{name}" for name in found)

    def find(self, ending: str | tuple[str, ...], folder: str = "") -> list[str]:
        """Names of all files below a folder that end like this, or like one of these, sorted."""
        start, inside = len(self.path("")), self.path(f"{folder}/" if folder else "")
        return sorted(path[start:] for path in self._look().files if path.startswith(inside) and path.endswith(ending))

    def exists(self, name: str) -> bool:
        """Whether there is a file of that name."""
        return self.path(name) in self._recent().files

    def open(self, name: str) -> BinaryIO:
        """Open a file for reading."""
        return io.BytesIO(self.get(name))

    def get(self, name: str) -> bytes:
        """The content of a small file.

        Raises:
            FileNotFoundError: the file does not exist.
        """
        return self._read(self._recent(), name)

    def get_versioned(self, name: str) -> tuple[bytes, str] | None:
        """The content of a file and its version, which `put_if_match` takes; None if there is no such file."""
        seen = self._look()
        if (blob := seen.files.get(self.path(name))) is None:
            return None
        return self._read(seen, name), blob.id

    def download(self, name: str, target: Path) -> None:
        """Copy a file to this machine, compared with its hash; a download that was cut off continues.

        Raises:
            FileNotFoundError: the file does not exist.
            ModelError: another content arrives than the Hub says, twice.
        """
        seen, path = self._recent(), self.path(name)
        if (blob := seen.files.get(path)) is None:
            raise FileNotFoundError(f"{self.url}/{name}")
        with self._commits.explained():
            folder = download.files(self.repository, str(seen.commit), [blob], f"{self.key} {self.url!r}", self.kind)
        source = (folder / path).resolve()
        try:
            os.link(source, target)
        except OSError:
            # Another disk, or one without hard links.
            shutil.copyfile(source, target)

    def put(self, name: str, content: bytes) -> None:
        """Write a small file in a commit."""
        self.put_all({name: content}, f"write {name}")

    def put_if_absent(self, name: str, content: bytes) -> bool:
        """Write a small file unless it exists; of several concurrent writers one succeeds.

        Returns:
            Whether the file holds this content because it was absent.
        """
        return self.put_all({name: content}, f"write {name}", (name, None))

    def put_if_match(self, name: str, content: bytes, version: str) -> bool:
        """Replace a small file unless it changed since `get_versioned` gave that version.

        Returns:
            Whether it was replaced.
        """
        return self.put_all({name: content}, f"write {name}", (name, version))

    def put_all(
        self, files: Mapping[str, Content | None], message: str, only_if: tuple[str, str | None] | None = None
    ) -> bool:
        """Write several files in one commit, see `Store.put_all`; files that are there already are left out."""
        kept: dict[str, CommitOperationAdd] = {}

        def operations(seen: Snapshot, is_again: bool) -> Sequence[Operation] | None:
            if only_if is not None:
                name, version = only_if
                blob = seen.files.get(self.path(name))
                if (None if blob is None else blob.id) != version:
                    # Perhaps by the commit of this process, whose answer was lost.
                    is_ours = is_again and blob is not None and self._read(seen, name) == files[name]
                    return [] if is_ours else None
            return [
                each
                for name, content in files.items()
                if (each := self._operation(seen, name, content, kept)) is not None
            ]

        return self._add(message, operations)

    def publish(self, temporary: Path, name: str) -> None:
        """Write a finished local file to its place, replacing any older version."""
        self.put_all({name: temporary}, f"write {name}")

    def move(self, name: str, to: str) -> None:
        """Give a file another name, over any file that has it; no effect if it was moved before."""

        def operations(seen: Snapshot, is_again: bool) -> Sequence[Operation]:
            if self.path(name) not in seen.files:
                return []
            add = CommitOperationAdd(self.path(to), self._read(seen, name))
            return [add, CommitOperationDelete(self.path(name), is_folder=False)]

        self._add(f"move {name} to {to}", operations)

    def delete(self, name: str) -> None:
        """Delete a file if it is there; older commits keep it."""
        self.put_all({name: None}, f"delete {name}")

    def _operation(
        self, seen: Snapshot, name: str, content: Content | None, kept: dict[str, CommitOperationAdd]
    ) -> Operation | None:
        """A file to add or delete; None if it is so already. `kept` has what was uploaded, for the next attempt."""
        path, blob = self.path(name), seen.files.get(self.path(name))
        if content is None:
            snapshot.drop(seen, path)
            return None if blob is None else CommitOperationDelete(path, is_folder=False)
        if callable(content):
            content = content(None if blob is None else self._read(seen, name))
        if isinstance(content, bytes):
            if blob is not None and blob.holds(content):
                return None
            # The person whose rows it names may want to be forgotten.
            snapshot.drop(seen, path)
            return CommitOperationAdd(path, content)
        if path not in kept:
            kept[path] = CommitOperationAdd(path, content)
        if blob is None:
            return kept[path]
        is_same = kept[path].upload_info.sha256.hex() == blob.id if blob.lfs else blob.holds(Path(content).read_bytes())
        return None if is_same else kept[path]

    def _add(self, message: str, operations: Callable[[Snapshot, bool], Sequence[Operation] | None]) -> bool:
        try:
            return self._commits.add(message, operations)
        finally:
            self._seen = None

    def _look(self) -> Snapshot:
        seen = self._commits.look()
        self._seen = (time.monotonic(), seen)
        return seen

    def _recent(self) -> Snapshot:
        """The repository as it was at most LOOK_S ago, and never before a write of this store."""
        if self._seen is None or time.monotonic() - self._seen[0] > LOOK_S:
            return self._look()
        return self._seen[1]

    def _read(self, seen: Snapshot, name: str) -> bytes:
        if self.path(name) not in seen.files:
            raise FileNotFoundError(f"{self.url}/{name}")
        with self._commits.explained():
            return snapshot.read(seen, self.path(name))
