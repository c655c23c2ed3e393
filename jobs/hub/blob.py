"""A file of a repository at a commit: where it is, and the id by which a changed or damaged content is noticed."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import RepoFile
from huggingface_hub.hf_api import RepoSibling

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Blob:
    """A file at a commit.

    Attributes:
        path: in the repository.
        size: in bytes.
        id: SHA-256 of its content if git-lfs keeps it, else the id that git gives it; equal content has equal ids.
        lfs: whether git-lfs keeps it.
    """

    path: str
    size: int
    id: str
    lfs: bool

    def holds(self, content: bytes | bytearray) -> bool:
        """Whether it is the id of this content."""
        if self.lfs:
            return hashlib.sha256(content).hexdigest() == self.id
        # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == self.id

    def is_in(self, file: Path) -> bool:
        """Whether a local file has its size and its content; of a large one no more than a block is in memory."""
        if file.stat().st_size != self.size:
            return False
        if not self.lfs:
            return self.holds(file.read_bytes())
        with file.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == self.id


def of_tree(file: RepoFile) -> Blob:
    """A file as the tree of a commit lists it."""
    if file.lfs is None:
        return Blob(file.path, file.size, file.blob_id, lfs=False)
    return Blob(file.path, file.lfs.size, file.lfs.sha256, lfs=True)


def of_sibling(file: RepoSibling) -> Blob | None:
    """A file as the description of a repository lists it; None if the Hub leaves its size or its id out."""
    if file.size is None or file.blob_id is None:
        return None
    return Blob(file.rfilename, file.size, file.lfs.sha256 if file.lfs else file.blob_id, file.lfs is not None)
