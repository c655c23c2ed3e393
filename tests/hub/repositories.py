"""The state of the Hub: users with tokens, and repositories whose commits are snapshots of files."""

from __future__ import annotations

import hashlib
import itertools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Literal

from tests.hub.storing import is_lfs

Kind = Literal["model", "dataset"]

_NUMBERS = itertools.count()


@dataclass(frozen=True)
class Blob:
    """The content of a file, and whether git-lfs keeps it."""

    content: bytes
    lfs: bool = False

    @classmethod
    def of(cls, path: str, content: bytes) -> Blob:
        """The content of a file that is kept as its name and size ask for, whether it is text or not."""
        return cls(content, is_lfs(path, len(content), b""))

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def pointer(self) -> bytes:
        """What git has in place of a file of git-lfs."""
        return (
            f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {len(self.content)}\n".encode()
        )

    @cached_property
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
    message: str = ""
    author: str = "tests"
    date: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z"))

    @cached_property
    def folders(self) -> dict[str, str]:
        """Path of each folder -> the id that git gives its tree."""
        inside: dict[str, dict[bytes, tuple[bytes, str]]] = {"": {}}
        for path, blob in self.files.items():
            names = path.split("/")
            for depth in range(1, len(names)):
                inside.setdefault("/".join(names[:depth]), {})
            inside["/".join(names[:-1])][names[-1].encode()] = (b"100644", blob.oid)
        oids: dict[str, str] = {}
        for path in sorted(inside, key=lambda each: -each.count("/") if each else 1):
            entries = inside[path]
            # git compares the names of folders as if they ended with a slash.
            order = sorted(entries, key=lambda name: name + (b"/" if entries[name][0] == b"40000" else b""))
            text = b"".join(b"%b %b\0%b" % (entries[n][0], n, bytes.fromhex(entries[n][1])) for n in order)
            oids[path] = hashlib.sha1(b"tree %d\0" % len(text) + text).hexdigest()
            if path:
                parent, _, name = path.rpartition("/")
                inside[parent][name.encode()] = (b"40000", oids[path])
        return oids


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
    """A repository.

    Attributes:
        gated: whether its files are only for those whom the owner lets in: `granted` has their names.
        lfs: SHA-256 of the files of git-lfs that were uploaded to it; a commit may name these only.
    """

    kind: Kind
    name: str
    private: bool = False
    gated: bool = False
    granted: set[str] = field(default_factory=set)
    commits: dict[str, Commit] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        if not self.commits:
            self._add({}, "initial commit", None, "main")

    @property
    def head(self) -> str:
        """The newest commit of main."""
        return self.branches["main"]

    def at(self, revision: str) -> Commit | None:
        """The commit of a branch, a tag or a whole commit id; None if there is none."""
        branch, tag = revision.removeprefix("refs/heads/"), revision.removeprefix("refs/tags/")
        return self.commits.get(self.branches.get(branch) or self.tags.get(tag) or revision)

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
                changed[path] = Blob.of(path, content)
        return self.replace(changed, message, branch)

    def replace(
        self, files: Mapping[str, Blob], title: str, branch: str = "main", message: str = "", author: str = "tests"
    ) -> str:
        """Make these the files of a branch, in one commit; returns its id."""
        return self._add(files, title, self.branches[branch], branch, message, author)

    def squash(self, branch: str, title: str) -> None:
        """Leave only one commit of a branch, without a parent."""
        self._add(self.commits[self.branches[branch]].files, title, None, branch)

    def history(self, revision: str) -> list[Commit]:
        """The commits from a revision back to the first."""
        found, commit = [], self.at(revision)
        while commit is not None:
            found.append(commit)
            commit = self.commits.get(commit.parent or "")
        return found

    def _add(self, files: Mapping[str, Blob], title: str, parent: str | None, branch: str, *more: str) -> str:
        sha = hashlib.sha1(f"{self.kind} {self.name} {next(_NUMBERS)} {secrets.token_hex(8)}".encode()).hexdigest()
        self.commits[sha] = Commit(sha, dict(files), title, parent, *more)
        self.lfs.update(blob.sha256 for blob in files.values() if blob.lfs)
        self.branches[branch] = sha
        return sha
