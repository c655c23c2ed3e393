"""A ledger: one small file for each shard that is done, written after the part files of the shard.

A shard is done if and only if its entry matches. Resume, nightly increments and re-enrichment all follow from that.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from jobs.sink.entry import Entry
from jobs.store import Store, names


class Ledger:
    """The entries in one folder of a store.

    Args:
        store: the sink's.
        folder: where the entries are.
        files: where the files that they name are; "" for the sink itself.
        is_elsewhere: whether the files of an entry are kept at another place, and so need not be here.
    """

    def __init__(self, store: Store, folder: str, files: str = "", is_elsewhere: Callable[[Entry], bool] | None = None):
        self.store = store
        self.folder = folder
        self.files = files
        self.is_elsewhere = is_elsewhere or (lambda _: False)

    def read(self, look: bool = True) -> dict[str, Entry]:
        """Every entry by slot; an incomplete one is ignored, so that its shard is redone.

        Args:
            look: ignore entries if their files do not exist.
        """
        listed = self.store.names(self.folder)
        if self.store.local:
            entries = list(map(self._read_one, listed))
        else:
            with ThreadPoolExecutor(16) as threads:
                entries = list(threads.map(self._read_one, listed))
        found = {entry.slot: entry for entry in entries if entry is not None}
        if not found or not look:
            return found
        there = set(self.store.find((".parquet", names.REJECTED_ENDING, names.STAGED_ENDING)))

        def is_whole(entry: Entry) -> bool:
            return there.issuperset(map(self.file, entry.files)) or self.is_elsewhere(entry)

        return {slot: entry for slot, entry in found.items() if is_whole(entry)}

    def get(self, slot: str) -> Entry | None:
        """The entry of one slot, if it is complete and its files exist."""
        entry = self._read_one(self._name(slot))
        if entry is None or self.is_elsewhere(entry):
            return entry
        return entry if all(self.store.exists(self.file(name)) for name in entry.files) else None

    def write(self, entry: Entry) -> None:
        """Write an entry atomically; it replaces any older one of its slot."""
        self.store.put(self._name(entry.slot), json.dumps(entry.to_json(), sort_keys=True).encode())

    def update(self, put: Iterable[Entry], gone: Iterable[str] = ()) -> None:
        """Write and delete several entries; their files are not touched."""
        for entry in put:
            self.write(entry)
        for slot in gone:
            self.forget(slot)

    def forget(self, slot: str) -> None:
        """Delete an entry and leave its files."""
        self.store.delete(self._name(slot))

    def remove(self, entry: Entry) -> None:
        """Delete a shard's files and its entry; the entry last, so that after a crash every file still has an entry."""
        for name in entry.files:
            self.store.delete(self.file(name))
        self.forget(entry.slot)

    def file(self, name: str) -> str:
        """Where a file of an entry is, below the sink."""
        return f"{self.files}/{name}{names.STAGED_ENDING}" if self.files else name

    def _name(self, slot: str) -> str:
        return f"{self.folder}/{slot}.json"

    def _read_one(self, name: str) -> Entry | None:
        try:
            return _parsed(self.store.get(name))
        except (ValueError, FileNotFoundError):
            return None


@functools.lru_cache(maxsize=1 << 16)
def _parsed(content: bytes) -> Entry:
    """An entry; a run reads the ledger some ten times, and validating thousands of entries takes seconds.

    Raises:
        ValueError: it is incomplete or of another version.
    """
    return Entry.from_json(json.loads(content))
