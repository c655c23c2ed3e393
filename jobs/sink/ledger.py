"""A ledger: an entry for each shard that is done, written after the part files of the shard.

A shard is done if and only if its entry matches. Resume, nightly increments and re-enrichment all follow from that.
Published entries are a `Log`, which changes once a commit; staged entries are written one by one by many processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import orjson

from jobs.sink.entry import Entry
from jobs.sink.staging import Staging
from jobs.store import Store, names
from jobs.store.log import Log

# An earlier version kept one file for each entry; their names end like this.
OLD_ENDING = ".json"

# Entries of which the files are looked for one by one; of more, all files of the sink are listed.
FEW = 8

THREADS = 16


class Ledger:
    """The entries in one folder of a store.

    Args:
        store: the sink's.
        folder: where the entries are.
        files: where the files that staged entries name are; "" for published entries, whose files are in the sink.
        is_elsewhere: whether the files of an entry are kept at another place, and so need not be here.
    """

    def __init__(self, store: Store, folder: str, files: str = "", is_elsewhere: Callable[[Entry], bool] | None = None):
        self.store = store
        self.folder = folder
        self.files = files
        self.is_elsewhere = is_elsewhere or (lambda _: False)
        self._kept: Log[Entry] | Staging = Staging(store, folder) if files else _log(store, folder)
        # Entries whose files this object has seen, so that a run does not list 100,000 files ten times.
        self._whole: dict[str, Entry] = {}
        # Slots of entries whose files were gone when this object last looked.
        self.lost: frozenset[str] = frozenset()
        self._may_have_old = True

    def read(self, look: bool = True) -> dict[str, Entry]:
        """Every entry by slot; an incomplete one is ignored, so that its shard is redone.

        Args:
            look: ignore entries if their files did not exist when this object first saw the entry.
        """
        found = self._old() | self._kept.read()
        if not look:
            return found
        self._whole |= {e.slot: e for e in self._with_files([e for e in found.values() if not self._is_whole(e)])}
        whole = {slot: entry for slot, entry in found.items() if self._is_whole(entry)}
        self.lost = frozenset(found.keys() - whole.keys())
        return whole

    def get(self, slot: str) -> Entry | None:
        """The entry of one slot, if it is complete and its files exist."""
        entry = self._kept.get(slot) or self._old_one(slot)
        if entry is None or self.is_elsewhere(entry):
            return entry
        return entry if all(self.store.exists(name) for name in self.files_of(entry)) else None

    def write(self, entry: Entry) -> None:
        """Write an entry; it replaces any older one of its slot."""
        self.update([entry])

    def update(self, put: Iterable[Entry], gone: Iterable[str] = ()) -> None:
        """Write and delete several entries, published ones all at once; their files are not touched.

        Raises:
            SinkBusy: another run has taken the sink over.
        """
        self._kept.update({entry.slot: entry for entry in put}, gone)

    def forget(self, slot: str) -> None:
        """Delete an entry and leave its files."""
        self.update([], [slot])

    def remove(self, entry: Entry) -> None:
        """Delete a shard's files and its entry; the entry last, so that after a crash every file still has an entry."""
        for name in self.files_of(entry):
            self.store.delete(name)
        self.forget(entry.slot)

    def claim(self, lease: int) -> None:
        """Begin to change the ledger under a lease; the files of an earlier version become one.

        Raises:
            SinkBusy: another run has taken the sink over.
        """
        if isinstance(self._kept, Staging):
            self._kept.lease = lease
        else:
            self._kept.claim(lease)
        old = self._old()
        known = self._kept.has_ever_had() if isinstance(self._kept, Log) else self._kept.read().keys()
        self._kept.update({slot: entry for slot, entry in old.items() if slot not in known})
        with ThreadPoolExecutor(1 if self.store.local else THREADS) as threads:
            list(threads.map(self.store.delete, self._old_names()))
        self._may_have_old = False

    def tidy(self) -> None:
        """Keep few files. Only the holder of the lease may call this.

        Published entries lose the statistics of their rows, except why rows were rejected: the report of their run has
        them. Staged entries without files are left out.
        """
        if isinstance(self._kept, Log):
            self._kept.merge(_without_findings)
        else:
            self._kept.replace(self.read())

    def keep_only(self, entries: Mapping[str, Entry]) -> None:
        """Forget all staged entries but these. Only the holder of the lease may call this."""
        assert isinstance(self._kept, Staging)
        self._kept.replace(entries)

    def file(self, name: str, writer: str) -> str:
        """Where a file of an entry is, below the sink.

        Args:
            name: as the entry has it.
            writer: of the entry.
        """
        if not self.files:
            return name
        return f"{self.files}/{name}{'.' if writer else ''}{writer}{names.STAGED_ENDING}"

    def files_of(self, entry: Entry) -> list[str]:
        """Where the files are that an entry has alone, below the sink."""
        return [self.file(name, entry.writer) for name in entry.files]

    def _is_whole(self, entry: Entry) -> bool:
        seen = self._whole.get(entry.slot)
        return seen is entry or seen == entry

    def _with_files(self, entries: list[Entry]) -> list[Entry]:
        if sum(not self.is_elsewhere(entry) for entry in entries) > FEW:
            endings = (".parquet", names.REJECTED_ENDING, names.STAGED_ENDING)
            exists: Callable[[str], bool] = frozenset(self.store.find(endings, self.files)).__contains__
        else:
            exists = self.store.exists
        return [e for e in entries if self.is_elsewhere(e) or all(map(exists, self.files_of(e)))]

    def _old(self) -> dict[str, Entry]:
        """The entries that an earlier version wrote, one file each."""
        listed = self._old_names()
        with ThreadPoolExecutor(1 if self.store.local else THREADS) as threads:
            found = [entry for entry in threads.map(self._read_old, listed) if entry is not None]
        return {entry.slot: entry for entry in found}

    def _old_one(self, slot: str) -> Entry | None:
        name = f"{self.folder}/{slot}{OLD_ENDING}"
        return self._read_old(name) if name in self._old_names() else None

    def _old_names(self) -> list[str]:
        if not self._may_have_old:
            return []
        found = [name for name in self.store.names(self.folder) if name.endswith(OLD_ENDING)]
        # No version writes them any more.
        self._may_have_old = bool(found)
        return found

    def _read_old(self, name: str) -> Entry | None:
        try:
            return Entry.from_json(orjson.loads(self.store.get(name)))
        except (ValueError, FileNotFoundError):
            return None


def _log(store: Store, folder: str) -> Log[Entry]:
    return Log(store, folder, "slot", Entry.from_json, orjson.dumps)


def _without_findings(entry: Entry) -> Entry:
    if entry.findings is None or entry.findings.keys() == {"rejects"}:
        return entry
    return replace(entry, findings={"rejects": entry.findings.get("rejects", {})})
