"""A commit: the record of what it does, and its steps, each of which can be repeated by another process.

Files of a table are published by `jobs.sink.table` instead, under the same record.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial

from pydantic import TypeAdapter

from jobs.sink.entry import Entry
from jobs.sink.ledger import Ledger
from jobs.store import Store, names
from transforms.errors import SinkBusy, UnreadableSink

# Concurrent requests to an object store.
THREADS = 16


@dataclass(frozen=True)
class Commit:
    """The steps of a commit that has begun.

    Attributes:
        publish: slots of the staged entries that are published.
        remove: slots of the published entries that are removed.
        run_id: the run that commits.
        lease: number of its lease.
        id: names the commit in the table of the sink.
    """

    publish: list[str]
    remove: list[str]
    run_id: str
    lease: int
    id: str = ""


_FORM = TypeAdapter(Commit)


def begin(store: Store, record: Commit) -> None:
    """Write the record down.

    Raises:
        SinkBusy: another commit is under way.
    """
    if not store.put_if_absent(names.COMMIT, json.dumps(asdict(record)).encode()):
        raise SinkBusy(f"sink.path {store.url!r} is being committed by another run; run again when it is done")


def begun(store: Store) -> Commit | None:
    """The commit that has begun; None if there is none.

    Raises:
        UnreadableSink: its file is damaged.
    """
    if not store.exists(names.COMMIT):
        return None
    try:
        return _FORM.validate_json(store.get(names.COMMIT))
    except ValueError as error:
        raise UnreadableSink(
            f"{store.url}/{names.COMMIT} is damaged, so that the interrupted commit cannot be finished; "
            f"restore the file, or delete it and run the same job again, which enriches what is missing"
        ) from error


def unfinished(store: Store, staged: Ledger) -> dict[str, Entry]:
    """Entries that an interrupted commit publishes, by slot: some of their files are staged, some in place already."""
    return {} if (record := begun(store)) is None else _publishing(record, staged)


def finish(store: Store, staged: Ledger, published: Ledger) -> None:
    """Move the parts of a commit that has begun into place, delete those that they replace, and enter them all."""
    if (record := begun(store)) is None:
        return
    put, before = _publishing(record, staged), published.read(look=False)
    # What is entered already was moved before.
    put = {slot: entry for slot, entry in put.items() if before.get(slot) != entry}
    gone = {slot: before[slot] for slot in record.remove if slot in before}
    steps: dict[str, list[Callable[[], None]]] = {}
    for slot, entry in put.items():
        steps.setdefault(entry.key, []).append(partial(_move, store, staged, entry, before.get(slot)))
    for entry in gone.values():
        steps.setdefault(entry.key, []).append(partial(_delete, store, entry.files))

    def commit_file(key: str) -> None:
        for step in steps[key]:
            step()

    # File by file, the new rows first: readers see rows of two versions of a file for a moment at most. An object
    # store answers a request in some 50 ms, so many files are moved concurrently there.
    with ThreadPoolExecutor(1 if store.local else THREADS) as threads:
        list(threads.map(commit_file, sorted(steps)))
    published.update(put.values(), gone)
    # Only then the staged entries, which are needed to finish a commit that has begun.
    end(store)


def end(store: Store) -> None:
    """Delete the record of a commit that is done, or given up."""
    store.delete(names.COMMIT)


def _publishing(record: Commit, staged: Ledger) -> dict[str, Entry]:
    entries = staged.read(look=False)
    return {slot: entries[slot] for slot in record.publish if slot in entries}


def _move(store: Store, staged: Ledger, entry: Entry, before: Entry | None) -> None:
    for name in reversed(entry.files):
        store.move(staged.file(name, entry.writer), name)
    _delete(store, set(before.files if before else ()) - set(entry.files))


def _delete(store: Store, files: Iterable[str]) -> None:
    for name in files:
        store.delete(name)
