"""The files of a sink as DuckDB reads them, wherever they are: in a folder, on an object store, on the Hub."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem

from jobs.sink.entry import Entry

PROTOCOL = "nightscribe"


@dataclass(frozen=True)
class File:
    """A part file or a rejected file.

    Attributes:
        name: below the sink.
        entries: the shards that it has rows of, by their first row; shards of a table may share a file.
        rejected: whether it has the rejected rows of the one shard.
        folders: Hive partition values in the names of its folders.
        open: opens it for reading.
    """

    name: str
    entries: tuple[Entry, ...]
    rejected: bool
    folders: dict[str, str | None]
    open: Callable[[], BinaryIO]

    def entry_of(self, row: int) -> Entry | None:
        """The shard of a row; None for a row that no entry names any more."""
        if self.rejected:
            return self.entries[0]
        for entry in self.entries:
            if any(p.part == self.name and p.first_row <= row < p.first_row + p.rows for p in entry.places):
                return entry
        return None


class NumberedFiles(AbstractFileSystem):
    """Files named by their numbers, `nightscribe://7`, so that no character of a name can be read as a glob.

    Args:
        files: the files.
    """

    protocol = PROTOCOL
    # Instances of a filesystem with equal arguments are one object otherwise.
    cachable = False

    def __init__(self, files: Sequence[File]):
        super().__init__()
        self.files = files
        self.sizes: dict[int, int] = {}

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        stream = self.files[number(path)].open()
        self.sizes[number(path)] = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        return stream

    def size(self, path: str) -> int:
        """Bytes of an opened file."""
        return self.sizes[number(path)]

    def glob(self, path: str, **_: Any) -> list[str]:
        """The name itself: DuckDB asks for the files of every name."""
        return [path]

    def modified(self, path: str) -> datetime:
        """A constant: a file is read by one connection only."""
        return datetime.fromtimestamp(0, UTC)


def url(number: int) -> str:
    """The name of a file."""
    return f"{PROTOCOL}://{number}"


def number(url: str) -> int:
    """The inverse of `url`; the protocol may be missing."""
    return int(url.rpartition("/")[2])
