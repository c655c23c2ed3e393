"""Publish the committed rows of a sink to its dataset repository, in one commit.

    look      the newest commit: its list of our files, the files that are there, the card
    compare   parts that are new or redone are added, those that are gone are deleted; all others stay as they are
    upload    the new files, in batches, before the commit
    commit    parts, list and card together, on top of the commit that was looked at

If another commit came first, or the answer was lost, it looks again; what was uploaded is not sent again. A file that
somebody else changed or added is never overwritten. Rows that a killed run has committed to the folder and not
published are published by the next run, because it compares the whole folder.
"""

from __future__ import annotations

import logging
import random
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete

from jobs.hub.dataset import TryAgain
from jobs.plan import Plan
from jobs.sink import card, owner, published
from jobs.sink.entry import Entry
from jobs.sink.folder import FolderSink
from jobs.sink.published import File, Published
from jobs.sink.repository import CARD, Mirror, Seen
from transforms.errors import SinkError

LOG = logging.getLogger(__name__)

ATTEMPTS = 6

# Before the second attempt; doubled for each further one.
PAUSE_S = 0.5

# Files that are hashed and uploaded together.
BATCH = 128

COPY_BYTES = 1 << 20


@dataclass(frozen=True)
class Publication:
    """What was published.

    Attributes:
        dataset: the place, for a person.
        commit: URL of the newest commit, which has the rows; None if there are none.
        uploaded_bytes: size of the part files that were new or changed.
    """

    dataset: str
    commit: str | None = None
    uploaded_bytes: int = 0


@dataclass(frozen=True)
class _Compared:
    """The folder of a sink compared with the repository.

    Attributes:
        kept: files that stay as they are, by slot.
        new: entries whose part files are added.
        gone: paths that are deleted.
    """

    kept: Mapping[str, File]
    new: Sequence[Entry]
    gone: Sequence[str]


def publish(plan: Plan, sink: FolderSink, mirror: Mirror, check: Callable[[], None]) -> Publication:
    """Publish what is committed in a sink.

    Args:
        plan: the run that has committed.
        sink: its folder.
        mirror: the repository of that folder.
        check: called before each attempt; raises if this process no longer holds the sink.

    Raises:
        SinkError: the Hub does not take it, or somebody else changed one of the files; the next run tries again.
    """
    with tempfile.TemporaryDirectory(prefix="nightscribe-") as temporary:
        uploads = _Uploads(sink, mirror, Path(temporary))
        attempt = 1
        while True:
            check()
            try:
                return _publish_once(plan, sink, mirror, uploads)
            except TryAgain as error:
                if attempt == ATTEMPTS:
                    raise SinkError(
                        f"{error}; the enriched rows are in {plan.spec.sink.path!r}, and the next run publishes them"
                    ) from error
                LOG.info("run %s: %s; trying again", plan.run_id, error)
            time.sleep(PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1))
            attempt += 1


def _publish_once(plan: Plan, sink: FolderSink, mirror: Mirror, uploads: _Uploads) -> Publication:
    seen = mirror.look()
    found = _compare(sink.published.read(), seen, mirror)
    added = uploads.upload(found.new)
    _refuse_overwriting(added, seen, mirror)
    files = {**found.kept, **{file.entry.slot: file for file in added}}
    if not files and seen.published is None:
        return Publication(mirror.spec.shown)
    now = Published(_owner(sink), plan.run_id, files)
    if is_same := seen.published is not None and replace(now, run_id=seen.published.run_id) == seen.published:
        now = seen.published
    operations: list[CommitOperationAdd | CommitOperationDelete] = [
        *(CommitOperationDelete(path, is_folder=False) for path in found.gone),
        *(uploads.additions[file.path] for file in added),
    ]
    if not is_same:
        operations.append(CommitOperationAdd(mirror.ledger_path, now.to_bytes()))
    text = seen.card
    if not is_same or not card.has_section(text, mirror):
        text = card.updated(text, plan, now, mirror)
    if text != seen.card:
        operations.append(CommitOperationAdd(CARD, str(text).encode()))
    commit = str(seen.snapshot.commit)
    if operations:
        message = f"{plan.spec.name}: {published.counted(files.values())}, run {plan.run_id}"
        commit = mirror.repository.commit(operations, seen.snapshot.commit, message)
        LOG.info("run %s: published as commit %s of %s", plan.run_id, commit, mirror.spec.shown)
    mirror.remember(commit, now)
    return Publication(mirror.spec.shown, f"{mirror.repository.url}/commit/{commit}", uploads.sent_bytes)


def _compare(entries: Mapping[str, Entry], seen: Seen, mirror: Mirror) -> _Compared:
    """Compare the ledger of the folder with the list and the files of the repository.

    A file of ours that somebody deleted is added again.

    Raises:
        SinkError: somebody else changed a file of ours.
    """
    ours = {} if seen.published is None else seen.published.files
    there = seen.snapshot.files
    for file in ours.values():
        if file.path in there and not mirror.holds(seen, file):
            raise SinkError(
                f"{mirror.repository.url}/blob/main/{file.path} was changed after run {file.entry.run_id} published "
                f"it; nothing was published: undo that change, or delete the file there and run again, which adds it "
                f"as it was"
            )
    kept = {
        slot: replace(ours[slot], entry=published.bare(entry))
        for slot, entry in entries.items()
        if slot in ours and published.is_same_part(ours[slot].entry, entry) and ours[slot].path in there
    }
    new = sorted((entry for slot, entry in entries.items() if slot not in kept), key=lambda entry: entry.part)
    wanted = {mirror.path_of(entry.part) for entry in entries.values()}
    gone = sorted(file.path for file in ours.values() if file.path in there and file.path not in wanted)
    return _Compared(kept, new, gone)


def _refuse_overwriting(added: Sequence[File], seen: Seen, mirror: Mirror) -> None:
    """Refuse to replace a file that this job did not write.

    Raises:
        SinkError: with the file.
    """
    ours = {file.path for file in seen.published.files.values()} if seen.published is not None else set()
    for file in added:
        if file.path in seen.snapshot.files and file.path not in ours and not mirror.holds(seen, file):
            raise SinkError(
                f"{mirror.repository.url}/blob/main/{file.path} is there, and this job did not write it; nothing was "
                f"published: delete that file, or choose another sink.config or sink.split"
            )


class _Uploads:
    """The part files that a run has uploaded, over all its attempts to commit them.

    Args:
        sink: where they are.
        mirror: its repository.
        temporary: a folder for copies of files of an object store.
    """

    def __init__(self, sink: FolderSink, mirror: Mirror, temporary: Path):
        self.sink, self.mirror, self.temporary = sink, mirror, temporary
        self.files: dict[str, File] = {}
        self.additions: dict[str, CommitOperationAdd] = {}

    @property
    def sent_bytes(self) -> int:
        """Size of the files so far."""
        return sum(file.size for file in self.files.values())

    def upload(self, entries: Sequence[Entry]) -> list[File]:
        """Upload the part files of entries, unless an earlier attempt did; in memory are only their paths.

        Raises:
            TryAgain: the Hub did not answer.
            SinkError: the Hub does not take a file.
        """
        left = [entry for entry in entries if entry.slot not in self.files]
        if left:
            self.mirror.repository.settle_uploads()
        for start in range(0, len(left), BATCH):
            batch = left[start : start + BATCH]
            files = [self._hashed(entry) for entry in batch]
            self.mirror.repository.upload([self.additions[file.path] for file in files])
            for file in files:
                self.files[file.entry.slot] = file
                if self.additions[file.path].path_or_fileobj == b"":
                    # The client has emptied it, so the commit does not read the file again.
                    self._copy(file.entry).unlink(missing_ok=True)
        return [self.files[entry.slot] for entry in entries]

    def _hashed(self, entry: Entry) -> File:
        path, local = self.mirror.path_of(entry.part), self._local(entry)
        if path not in self.additions:
            self.additions[path] = CommitOperationAdd(path, local)
        return published.hashed(path, local, entry)

    def _local(self, entry: Entry) -> Path:
        """The part file of an entry on a local disk."""
        store = self.sink.store
        if not store.exists(entry.part):
            return self.mirror.download(entry)
        if store.local:
            return Path(store.path(entry.part))
        copy = self._copy(entry)
        if not copy.exists():
            with store.open(entry.part) as stream, copy.open("wb") as target:
                shutil.copyfileobj(stream, target, COPY_BYTES)
        return copy

    def _copy(self, entry: Entry) -> Path:
        return self.temporary / entry.slot


def _owner(sink: FolderSink) -> owner.Owner:
    found = owner.read(sink.store)
    assert found is not None
    # Paths relative to the folder of this machine say nothing on another one.
    return replace(found, relative=())
