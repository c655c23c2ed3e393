"""The state of the Hub: users with tokens, and repositories whose commits are snapshots of files."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

Kind = Literal["model", "dataset"]

# Files that git-lfs keeps, as the .gitattributes of a new repository says.
LFS_ENDINGS = (".parquet", ".arrow", ".bin", ".safetensors", ".h5", ".zip", ".gz", ".zst", ".pt", ".ckpt", ".pkl")
LFS_SIZE = 10 << 20

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Blob:
    """The content of a file, and whether git-lfs keeps it."""

    content: bytes
    lfs: bool = False

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git has in place of a file of git-lfs."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @property
    def oid(self) -> str:
        """The id that git gives it."""
        text = self.pointer if self.lfs else self.content
        return hashlib.sha1(b"blob %d\0" % len(text) + text).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.lfs else self.oid


@dataclass(frozen=True)
class Commit:
    """A snapshot of all files."""

    sha: str
    files: Mapping[str, Blob]
    title: str
    parent: str | None
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))


@dataclass
class User:
    """A user; `organizations` is None for one who may write everywhere."""

    name: str
    token: str
    write: bool
    organizations: tuple[str, ...] | None = None
    expired: bool = False


@dataclass
class Repository:
    """A repository; `granted` names the users whom the owner of a gated one let in."""

    kind: Kind
    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.commits:
            self._add({}, "initial commit", None, "main")

    @property
    def head(self) -> str:
        """The newest commit of main."""
        return self.branches["main"]

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag, or a commit id or its beginning; None if there is none."""
        name = revision.removeprefix("refs/heads/")
        if (sha := self.branches.get(name) or self.tags.get(name)) is not None:
            return self.commits[sha]
        found = [sha for sha in self.commits if len(name) >= 7 and sha.startswith(name)]
        return self.commits[found[0]] if len(found) == 1 else None

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Path -> content."""
        commit = self.at(revision)
        assert commit is not None, revision
        return {path: blob.content for path, blob in commit.files.items()}

    def commit(self, files: Mapping[str, bytes | None], message: str = "a commit", branch: str = "main") -> str:
        """Add, replace or (None) delete files in one commit; returns its id."""
        changed = dict(self.commits[self.branches[branch]].files)
        for path, content in files.items():
            if content is None:
                del changed[path]
            else:
                changed[path] = Blob(content, is_lfs(path, len(content)))
        return self.replace(changed, message, branch)

    def replace(self, files: Mapping[str, Blob], message: str, branch: str = "main") -> str:
        """Make these the files of a branch, in one commit; returns its id."""
        return self._add(files, message, self.branches[branch], branch)

    def _add(self, files: Mapping[str, Blob], message: str, parent: str | None, branch: str) -> str:
        sha = hashlib.sha1(f"{self.kind} {self.name} {next(_NUMBERS)} {secrets.token_hex(8)}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, dict(files), message, parent)
        self.branches[branch] = sha
        return sha

    def history(self, revision: str) -> list[Commit]:
        """The commits from a revision back to the first."""
        found, commit = [], self.at(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found


def is_lfs(path: str, size: int) -> bool:
    """Whether git-lfs keeps a file."""
    return path.lower().endswith(LFS_ENDINGS) or size >= LFS_SIZE
