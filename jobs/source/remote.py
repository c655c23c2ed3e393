"""A file of an object store for the readers of formats: of a Parquet file only the footer and the wanted columns.

Measured against pyarrow's own S3 filesystem in tests/bench/object_store.py.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile

from jobs.hub.parts import Parts, Range, merged
from jobs.source.files import version
from jobs.source.urls import shown
from jobs.store import s3
from transforms.errors import SourceError

# The end of a Parquet file: the length of its footer, and a magic number.
TAIL = 8
# A footer is looked for in so many bytes; a file of this size is read whole. A request takes as long as these bytes.
FIRST_BYTES = 64 << 10


class RemoteFile:
    """One file, as a filesystem that has only this file; it refuses another version than the planned one.

    Args:
        fs: its filesystem.
        path: its path there.
        planned: its version when it was listed; None for a file that never changes.
        size: in bytes, if that is known.
    """

    def __init__(self, fs: AbstractFileSystem, path: str, planned: str | None, size: int | None = None):
        self._fs, self._path, self._planned, self._size = fs, path, planned, size
        self._tail: bytes | None = None

    def open(self, path: str, mode: str = "rb", **options: Any) -> BinaryIO:
        """The file, to be read from its beginning."""
        if self._size is None:
            self._look()
        found: BinaryIO = self._fs.open(path, mode, **options)
        return found

    def size(self, path: str) -> int:
        """Its bytes."""
        if self._size is None:
            self._look()
        assert self._size is not None
        return self._size

    def open_parts(self, path: str) -> BinaryIO:
        """The file, of which parts will be read; if it is large, it has a method `prefetch` that is told which."""
        tail = self._end(FIRST_BYTES)
        return io.BytesIO(tail) if len(tail) == self.size(path) else _Ranges(self._fs, path, self.size(path), tail)

    def footer(self, path: str) -> bytes:
        """The end of a Parquet file, from its footer on."""
        tail = self._end(FIRST_BYTES)
        if tail[-4:] not in (b"PAR1", b"PARE"):
            return tail
        return self._end(int.from_bytes(tail[-TAIL:-4], "little") + TAIL)

    def _end(self, count: int) -> bytes:
        """At least so many bytes of its end, or the whole file."""
        if self._tail is None:
            if s3.is_s3(self._fs):
                content, self._size, found = s3.tail(self._fs, self._path, count) or (b"", 0, self._planned or "")
                self._check(version({"ETag": found}, self._path))
                self._tail = content
            else:
                self._look()
                self._tail = self._fetch(max(0, self.size(self._path) - count), self.size(self._path))
        missing = min(count, self.size(self._path)) - len(self._tail)
        if missing > 0:
            stop = self.size(self._path) - len(self._tail)
            self._tail = self._fetch(stop - missing, stop) + self._tail
        return self._tail

    def _look(self) -> None:
        self._fs.invalidate_cache(self._fs._parent(self._path))
        info = self._fs.info(self._path)
        self._check(version(info, self._path))
        self._size = int(info["size"])

    def _check(self, found: str) -> None:
        if self._planned is not None and found != self._planned:
            raise SourceError(f"{shown(self._path)} has changed since the run was planned; run again")

    def _fetch(self, start: int, stop: int) -> bytes:
        content: bytes = self._fs.cat_file(self._path, start=start, end=stop) if start < stop else b""
        return content


class _Ranges(AbstractBufferedFile):
    """A file that is read in parts; its end is known."""

    def __init__(self, fs: AbstractFileSystem, path: str, size: int, tail: bytes):
        super().__init__(fs, path, "rb", cache_type="none", size=size)
        self._tail_start, self._tail = size - len(tail), tail
        self._parts: Parts | None = None

    def prefetch(self, wanted: Sequence[Range]) -> None:
        """Say which ranges will be read; they are fetched ahead, in as few requests as waste few bytes."""
        ahead = [(start, min(stop, self._tail_start)) for start, stop in wanted if start < self._tail_start]
        self._parts = Parts(self._fetch, merged(ahead))

    def close(self) -> None:
        """Close, and fetch nothing more."""
        if self._parts is not None:
            self._parts.close()
        super().close()

    def _fetch_range(self, start: int, stop: int) -> bytes:
        found = []
        while start < stop:
            if start >= self._tail_start:
                found.append(self._tail[start - self._tail_start : stop - self._tail_start])
            else:
                end = min(stop, self._tail_start)
                part = None if self._parts is None else self._parts.read(start, end)
                found.append(part or self._fetch(start, end))
            start += len(found[-1])
        return b"".join(found)

    def _fetch(self, start: int, stop: int) -> bytes:
        content: bytes = self.fs.cat_file(self.path, start=start, end=stop)
        if len(content) != stop - start:
            raise OSError(f"{shown(self.path)} ended at byte {start + len(content)} instead of {stop}")
        return content
