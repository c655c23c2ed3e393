"""Entries of shards that are not published yet, written one by one by many processes at a time.

Each process adds lines to a file of its own, so that no writer waits for another: on a local disk a line is appended
and flushed to the disk, an object store gets the whole file again. A file that has become large is left as it is, and
the process begins another.

Of several lines about a slot the one of the newest lease counts, and a line counts before those that its writer
knew. Clocks of machines are not compared.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import orjson

from jobs.sink.entry import Entry
from jobs.store import Store, unchanged

LOG = logging.getLogger(__name__)

ENDING = ".jsonl"

# A larger file is not continued. An object store gets the whole file for each line.
MAX_BYTES, MAX_BYTES_REMOTE = 4 << 20, 1 << 20


@dataclass(frozen=True)
class _Line:
    """One line.

    Attributes:
        slot: what it is about.
        lease: number of the lease that it was written under, or that of the line before it, if that is newer.
        turn: one more than that of the newest line of that lease about the slot that its writer knew.
        entry: the staged entry; None if it is not staged any more.
    """

    slot: str
    lease: int
    turn: int
    entry: Entry | None


class Staging:
    """The staged entries in a folder of a store.

    Args:
        store: the sink's.
        folder: the files.

    Attributes:
        lease: number of the lease that this process holds; 0 for a worker, whose entries have the number.
    """

    def __init__(self, store: Store, folder: str):
        self.store, self.folder = store, folder
        self.lease = 0

    def read(self) -> dict[str, Entry]:
        """The entries by slot."""
        return {slot: line.entry for slot, line in self._newest().items() if line.entry is not None}

    def get(self, slot: str) -> Entry | None:
        """The entry of a slot."""
        line = self._newest().get(slot)
        return None if line is None else line.entry

    def update(self, put: Mapping[str, Entry], gone: Iterable[str] = ()) -> None:
        """Add and remove entries; once this returns, they survive a crash."""
        entries: dict[str, Entry | None] = {**dict.fromkeys(gone), **put}
        if not entries:
            return
        known = self._newest()
        lines = []
        for slot, entry in entries.items():
            before = known.get(slot)
            lease = max(self.lease, 0 if entry is None else entry.lease)
            if before is None or before.lease < lease:
                lines.append(_Line(slot, lease, 1, entry))
            else:
                lines.append(_Line(slot, before.lease, before.turn + 1, entry))
        _writer(self.store.url, self.folder, os.getpid()).write(self.store, lines)

    def replace(self, entries: Mapping[str, Entry]) -> None:
        """Replace all files by one with these entries. Only the holder of the lease may call this."""
        writer = _writer(self.store.url, self.folder, os.getpid())
        writer.end()
        listed = self._files()
        if len(listed) > 1 or not entries or entries.keys() != {line.slot for each in listed.values() for line in each}:
            newest = _ordered(listed)
            writer.write(self.store, [newest[slot] for slot in entries])
            writer.end()
            # Those that say that an entry is gone come last, so that no crash brings it back.
            for name in sorted(listed, key=lambda name: any(line.entry is None for line in listed[name])):
                self.store.delete(name)

    def _newest(self) -> dict[str, _Line]:
        return _ordered(self._files())

    def _files(self) -> dict[str, list[_Line]]:
        """The lines of each file, those of files that have not changed from memory."""
        known = _known(self.store.url, self.folder)
        found = unchanged.read(self.store, self.folder, lambda name: name.endswith(ENDING), self._read, known)
        return {name: list(lines.values()) for name, lines in found.items()}

    def _read(self, name: str) -> dict[bytes, _Line]:
        content = self.store.get(name)
        _, before = _known(self.store.url, self.folder).get(name, ("", {}))
        found: dict[bytes, _Line] = {}
        # A process that was killed while it wrote leaves a torn last line.
        whole, _, torn = content.rpartition(b"\n")
        damaged = 1 if torn else 0
        for raw in whole.splitlines():
            if (line := before.get(raw)) is None:
                try:
                    line = _parsed(raw)
                except (ValueError, KeyError, TypeError, AttributeError):
                    damaged += 1
                    continue
            found[raw] = line
        if damaged:
            LOG.warning("%s/%s: %d damaged lines are ignored", self.store.url, name, damaged)
        return found


class _Writer:
    """The file that this process adds lines to."""

    def __init__(self, folder: str):
        self.folder = folder
        self.lock = threading.Lock()
        self.end()

    def end(self) -> None:
        """Begin another file with the next line."""
        self.name = f"{self.folder}/{uuid.uuid4().hex}{ENDING}"
        self.size, self.kept = 0, b""

    def write(self, store: Store, lines: Iterable[_Line]) -> None:
        """Add lines, all or none of them unless the machine fails."""
        content = b"".join(map(_dumped, lines))
        if not content:
            return
        with self.lock:
            try:
                if store.local:
                    store.append(self.name, content)
                else:
                    store.put(self.name, self.kept + content)
                    self.kept += content
            except BaseException:
                # A part of the content may be there.
                self.end()
                raise
            self.size += len(content)
            if self.size > (MAX_BYTES if store.local else MAX_BYTES_REMOTE):
                self.end()


def _ordered(files: Mapping[str, list[_Line]]) -> dict[str, _Line]:
    newest: dict[str, tuple[int, int, str]] = {}
    found: dict[str, _Line] = {}
    for name, lines in files.items():
        for line in lines:
            order = (line.lease, line.turn, name)
            if line.slot not in found or order >= newest[line.slot]:
                newest[line.slot], found[line.slot] = order, line
    return found


def _dumped(line: _Line) -> bytes:
    content = {"slot": line.slot, "gone": True} if line.entry is None else line.entry.to_json()
    return orjson.dumps({**content, "order": [line.lease, line.turn]}) + b"\n"


def _parsed(raw: bytes) -> _Line:
    data = orjson.loads(raw)
    lease, turn = data.pop("order")
    entry = None if data.get("gone") is True else Entry.from_json(data)
    return _Line(str(data["slot"]), int(lease), int(turn), entry)


@functools.lru_cache(maxsize=64)
def _writer(url: str, folder: str, pid: int) -> _Writer:
    """The writer of this process; Beam and Dask open a sink for every few shards."""
    return _Writer(folder)


@functools.lru_cache(maxsize=64)
def _known(url: str, folder: str) -> dict[str, tuple[str, dict[bytes, _Line]]]:
    """Files that this process has read: name -> (version, its lines by their bytes)."""
    return {}
