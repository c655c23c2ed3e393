"""The ledger: one small entry a shard, written after its part file is in place.

A shard is done if and only if its entry matches. Resume, nightly increments and re-enrichment all follow from that.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from jobs.plan.fingerprint import Fingerprint
from jobs.store import Store

FOLDER = "_nightscribe/ledger"

# What Shard.part makes; any other file in a sink is not ours to touch.
PART = re.compile(r"-[0-9a-f]{8}-\d+\.parquet$")


@dataclass(frozen=True)
class Entry:
    """What is known of a finished shard.

    Attributes:
        slot: the shard's place in the sink; the entry's name.
        shard: id of the shard.
        key: source file, below the root of its source.
        version: version of that file.
        start: where the shard's range begins.
        stop: where it ends.
        limit: rows that `source.limit` left of it, or None.
        fingerprint: everything beside its source rows that could change its output.
        rows_in: rows that entered the tasks, unreadable ones included.
        rows_out: rows in the part file.
        rows_rejected: rows in the rejected file.
        part: part file below the sink.
        rejected: rejected file below the sink, or None.
        tokens: real tokens computed.
        padded_tokens: slots computed, padding included.
        run_id: the run that wrote it.
        time: when, ISO 8601 in UTC.
        content: hash of the local source file that it was read from, or None.
    """

    slot: str
    shard: str
    key: str
    version: str
    start: int
    stop: int
    limit: int | None
    fingerprint: Fingerprint
    rows_in: int
    rows_out: int
    rows_rejected: int
    part: str
    rejected: str | None
    tokens: int
    padded_tokens: int
    run_id: str
    time: str
    content: str | None = None

    @property
    def files(self) -> list[str]:
        """The files that it stands for, below the sink."""
        return [self.part] + ([self.rejected] if self.rejected is not None else [])

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self) | {"fingerprint": self.fingerprint.to_json()}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Entry:
        """The inverse of `to_json`."""
        return cls(**data | {"fingerprint": Fingerprint.from_json(data["fingerprint"])})


class Ledger:
    """The entries below one sink."""

    def __init__(self, store: Store):
        self.store = store

    def read(self) -> dict[str, Entry]:
        """Every entry by slot; a torn one, or one whose files are gone, counts as none, so that its shard is redone."""
        with ThreadPoolExecutor(16) as threads:
            entries = list(threads.map(self._read_one, self.store.names(FOLDER)))
        there: set[str] = set(self.store.find(".parquet")) if entries else set()
        return {entry.slot: entry for entry in entries if entry is not None and there.issuperset(entry.files)}

    def get(self, slot: str) -> Entry | None:
        """The entry of one slot, if it is whole and its files are there."""
        entry = self._read_one(f"{FOLDER}/{slot}.json")
        return entry if entry is not None and all(map(self.store.exists, entry.files)) else None

    def write(self, entry: Entry) -> None:
        """Put an entry in place of any older one of its slot, at once and whole."""
        self.store.put(f"{FOLDER}/{entry.slot}.json", json.dumps(entry.to_json(), sort_keys=True).encode())

    def remove(self, entry: Entry) -> None:
        """Delete a shard's files and forget it; the entry goes last, so that a crash leaves nothing unaccounted for."""
        for name in (*entry.files, f"{FOLDER}/{entry.slot}.json"):
            self.store.delete(name)

    def orphans(self, entries: Iterable[Entry]) -> list[str]:
        """Part files that no entry knows: what a run left that was killed between a part file and its entry."""
        known = {name for entry in entries for name in entry.files}
        return [name for name in self.store.find(".parquet") if PART.search(name) and name not in known]

    def _read_one(self, name: str) -> Entry | None:
        try:
            return Entry.from_json(json.loads(self.store.get(name)))
        except (ValueError, TypeError, KeyError, FileNotFoundError):
            return None
