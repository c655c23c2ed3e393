"""A map that is kept as a few numbered files of JSON lines; of several lines of a key the newest counts.

    00000007.jsonl   {"format": 1, "lease": 3}
                     {"slot": "5f03", ...}              what the key 5f03 has
                     {"slot": "81aa", "gone": true}     the key 81aa has nothing any more

A change is one new file, and files are not changed later. So a reader sees all of a change or nothing, and a crash
leaves either. `merge` writes a file that repeats the files before it, and deletes those, the oldest first: a reader
that sees some of both gets the same.

A number is taken by a conditional write, and a file has the number of the lease that it was written under: whoever
lost the lease is refused (a fencing token, see `lease`).
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import orjson

from jobs.store import Store, unchanged
from transforms.errors import SinkBusy, UnreadableSink

LOG = logging.getLogger(__name__)

# Increased whenever an older version would misread a file of this version.
FORMAT = 1

ENDING = ".jsonl"

# A merge includes each older file that is at most this many times as large as those after it. So there are at most some
# ten files, and ten changed keys among 100,000 do not rewrite all of them.
SHARE = 4

# More files than this are merged before a run; each failed run leaves one or two.
MANY = 12

T = TypeVar("T")


@dataclass(frozen=True)
class Segment(Generic[T]):
    """One file.

    Attributes:
        number: its number.
        lease: number of the lease that it was written under.
        size: bytes.
        lines: key -> what it has; None if it has nothing any more.
    """

    number: int
    lease: int
    size: int
    lines: Mapping[str, T | None]


class Log(Generic[T]):
    """A map in a folder of a store.

    Args:
        store: the store.
        folder: the files.
        key: the name of the key in a line.
        load: a line -> what its key has.
        dump: the inverse; the result holds the key.

    Attributes:
        lease: number of the lease that this process holds; 0 if it holds none.
    """

    def __init__(
        self, store: Store, folder: str, key: str, load: Callable[[dict[str, Any]], T], dump: Callable[[T], bytes]
    ):
        self.store, self.folder, self.key = store, folder, key
        self.load, self.dump = load, dump
        self.lease = 0

    def read(self) -> dict[str, T]:
        """The map as it is now."""
        return _state(self._segments())

    def get(self, key: str) -> T | None:
        """What a key has."""
        return next((each.lines[key] for each in reversed(self._segments()) if key in each.lines), None)

    def has_ever_had(self) -> set[str]:
        """All keys of which a line tells, also that they have nothing any more."""
        return {key for segment in self._segments() for key in segment.lines}

    def update(self, put: Mapping[str, T], gone: Iterable[str] = ()) -> None:
        """Change some keys, all at once.

        Raises:
            SinkBusy: a process with a newer lease writes here.
        """
        lines: dict[str, T | None] = {**dict.fromkeys(gone), **put}
        if lines:
            self._write(lines)

    def claim(self, lease: int) -> None:
        """Begin to write under a lease: whoever wrote under an older one is refused from now on.

        Raises:
            SinkBusy: a process with a newer lease writes here.
        """
        newest = max((segment.lease for segment in self._segments()), default=0)
        # The leases of a sink that was copied to another store begin again there.
        self.lease = max(lease, newest + 1)
        if not self.store.local:
            # A local lease ends with its process.
            self._write({})
        if len(self._segments()) > MANY:
            self.merge()

    def merge(self, change: Callable[[T], T] = lambda value: value) -> None:
        """Merge the newest files, and older ones that are not much larger. Only the holder of the lease may call this.

        Args:
            change: made to each value that is merged.

        Raises:
            SinkBusy: a process with a newer lease writes here.
        """
        segments = self._segments()
        if not segments:
            return
        first = _first_to_merge([segment.size for segment in segments])
        merged = segments[first:]
        lines: dict[str, T | None] = {key: value for segment in merged for key, value in segment.lines.items()}
        # Without older files nothing has to be said about keys that have nothing.
        kept = {
            key: None if value is None else change(value)
            for key, value in lines.items()
            if value is not None or first > 0
        }
        if len(merged) == 1 and kept == lines:
            return
        if kept or len(segments) > len(merged):
            self._write(kept)
        else:
            # The number of the last file must not be given again while somebody may still read it.
            merged = merged[:-1]
        for segment in merged:
            self.store.delete(self._name(segment.number))

    def _write(self, lines: Mapping[str, T | None]) -> None:
        while True:
            segments = self._segments()
            newest = max((segment.lease for segment in segments), default=0)
            if self.lease and newest > self.lease:
                raise SinkBusy(
                    f"{self.store.key} {self.store.url!r} was taken over by another run: its ledger was written under "
                    f"lease {newest}, and this run has lease {self.lease}; run again, finished shards are kept"
                )
            number = segments[-1].number + 1 if segments else 1
            content = [orjson.dumps({"format": FORMAT, "lease": max(newest, self.lease)})]
            for key, value in lines.items():
                content.append(orjson.dumps({self.key: key, "gone": True}) if value is None else self.dump(value))
            whole = b"\n".join([*content, b""])
            if self.store.put_if_absent(self._name(number), whole):
                break
        # What was just written need not be read.
        if (version := self.store.versions(self.folder).get(self._name(number))) is not None:
            segment = Segment(number, max(newest, self.lease), len(whole), dict(lines))
            _known(self.store.url, self.folder, self.key)[self._name(number)] = (version, segment)

    def _segments(self) -> list[Segment[T]]:
        """All files by number, those that have not changed from memory."""
        known = _known(self.store.url, self.folder, self.key)
        found = unchanged.read(self.store, self.folder, lambda name: _number(name) is not None, self._read, known)
        return sorted(found.values(), key=lambda segment: segment.number)

    def _read(self, name: str) -> Segment[T]:
        content = self.store.get(name)
        number = _number(name)
        assert number is not None
        head, *rest = content.splitlines() or [b""]
        lines: dict[str, T | None] = {}
        lease = damaged = 0
        try:
            told = orjson.loads(head)
            format_, lease = int(told["format"]), int(told["lease"])
        except (ValueError, KeyError, TypeError):
            damaged += 1
        else:
            if format_ != FORMAT:
                raise UnreadableSink(
                    f"{self.store.url}/{name} has format {format_}, and this version of nightscribe reads format "
                    f"{FORMAT}; install the version that wrote it"
                )
        for line in rest:
            try:
                data = orjson.loads(line)
                lines[data[self.key]] = None if data.get("gone") is True else self.load(data)
            except (ValueError, KeyError, TypeError, AttributeError):
                damaged += 1
        if damaged:
            LOG.warning("%s/%s: %d damaged lines are ignored", self.store.url, name, damaged)
        return Segment(number, lease, len(content), lines)

    def _name(self, number: int) -> str:
        return f"{self.folder}/{number:08d}{ENDING}"


def _state(segments: Iterable[Segment[T]]) -> dict[str, T]:
    newest: dict[str, T | None] = {}
    for segment in segments:
        newest |= segment.lines
    return {key: value for key, value in newest.items() if value is not None}


def _first_to_merge(sizes: list[int]) -> int:
    first = len(sizes) - 1
    total = sizes[first]
    while first and sizes[first - 1] <= SHARE * total:
        first -= 1
        total += sizes[first]
    return first


def _number(name: str) -> int | None:
    stem = name.rsplit("/", 1)[-1].removesuffix(ENDING)
    return int(stem) if name.endswith(ENDING) and stem.isdigit() else None


@functools.lru_cache(maxsize=64)
def _known(url: str, folder: str, key: str) -> dict[str, tuple[str, Segment[Any]]]:
    """Files that this process has read: name -> (version, content). A run reads its ledger some ten times."""
    return {}
