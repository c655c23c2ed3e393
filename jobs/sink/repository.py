"""The dataset repository behind a sink: what it has, how this machine's folder follows it, parts that are only there.

The folder (`sink.path`) is where runs stage and commit their rows, as for any sink. It remembers what the repository
had when it last looked, so that a change by another machine is told from rows that are not published yet. A new
machine takes the ledger from the repository, and a part file only when its rows are read again.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO

from jobs.hub.dataset import DatasetRepository
from jobs.hub.snapshot import Snapshot
from jobs.sink import owner, published
from jobs.sink.entry import Entry
from jobs.sink.ledger import Ledger
from jobs.sink.published import Changes, File, Published
from jobs.spec import JobSpec, SinkSpec
from jobs.store import Store, names
from transforms.errors import SpecError, UnreadableSink

CARD = "README.md"


@dataclass(frozen=True)
class Seen:
    """A repository at its newest commit.

    Attributes:
        snapshot: that commit with its files.
        published: the list of the sink's configuration and split; None if it has none.
        card: its README.md, or None.
    """

    snapshot: Snapshot
    published: Published | None = None
    card: str | None = None

    @property
    def owner(self) -> owner.Owner | None:
        """The job that the split belongs to."""
        return None if self.published is None else self.published.owner


@dataclass(frozen=True)
class _Known:
    """What this machine remembers of the repository."""

    place: str
    commit: str
    published: Published


class Mirror:
    """One configuration and split of a dataset repository, as the folder of a sink follows it.

    Args:
        spec: the job file's section, with a dataset.
        store: the folder.
    """

    def __init__(self, spec: SinkSpec, store: Store):
        assert spec.dataset is not None
        assert spec.split is not None
        self.spec = spec
        self.config, self.split = spec.config, spec.split
        self.store = store
        self.repository = DatasetRepository(spec.dataset)

    @property
    def folder(self) -> str:
        """The folder of the part files in the repository."""
        return published.folder(self.config, self.split)

    @property
    def ledger_path(self) -> str:
        """The list of the part files in the repository."""
        return published.ledger_path(self.config, self.split)

    def path_of(self, part: str) -> str:
        """Where a part file of the folder is in the repository."""
        return published.path_of(part, self.config, self.split)

    @property
    def base(self) -> Published | None:
        """The list of the repository when this machine last saw it; None if it never did."""
        return None if self._known is None else self._known.published

    def look(self) -> Seen:
        """The newest commit of the repository, with the list of this split and the card.

        Raises:
            SinkError: the Hub does not answer.
            UnreadableSink: the list is damaged.
        """
        seen = self.repository.look()
        ledger, card = self.repository.read(seen, self.ledger_path), self.repository.read(seen, CARD)
        page = f"{self.repository.url}/blob/{seen.commit}"
        try:
            text = None if card is None else card.decode()
        except UnicodeDecodeError as error:
            raise UnreadableSink(f"{page}/{CARD} is not in UTF-8; correct it there") from error
        found = None if ledger is None else Published.from_bytes(ledger, f"{page}/{self.ledger_path}")
        return Seen(seen, found, text)

    def holds(self, seen: Seen, file: File) -> bool:
        """Whether the repository has a part file as it was published; the path must be there."""
        return self.repository.holds(seen.snapshot, file.path, file.size, file.sha256, file.oid)

    def remember(self, commit: str, list_: Published) -> None:
        """Keep what the repository has; only the holder of the sink may call this."""
        head = {"place": self.spec.shown, "commit": commit}
        self.store.put(names.REPOSITORY, json.dumps(head).encode() + b"\n" + list_.to_bytes())
        self.__dict__.pop("_known", None)

    def forget(self) -> None:
        """The repository has nothing of this split; only the holder of the sink may call this."""
        self.store.delete(names.REPOSITORY)
        self.__dict__.pop("_known", None)

    def has(self, entry: Entry) -> bool:
        """Whether the repository had the part file of an entry when this machine last saw it."""
        file = None if self.base is None else self.base.files.get(entry.slot)
        return file is not None and published.is_same_part(file.entry, entry)

    def download(self, entry: Entry) -> Path:
        """The part file of an entry from the repository, in the cache of huggingface_hub.

        Raises:
            SinkError: the Hub does not answer, or does not have the bytes that were published.
        """
        assert self._known is not None
        file = self._known.published.files[entry.slot]
        return self.repository.download(self._known.commit, file.path, file.size, file.sha256)

    def changes(self, ledger: Ledger, seen: Seen) -> Changes:
        """What must be done to the ledger of this machine so that it agrees with the repository."""
        return published.changes(ledger.read(look=False), self.base, seen.published)

    def open(self, entry: Entry) -> BinaryIO:
        """Open the part file of an entry as the repository has it."""
        return self.download(entry).open("rb")

    @cached_property
    def _known(self) -> _Known | None:
        try:
            head, _, rest = self.store.get(names.REPOSITORY).partition(b"\n")
            place = f"{self.store.url}/{names.REPOSITORY}"
            known = _Known(**json.loads(head), published=Published.from_bytes(rest, place))
        except FileNotFoundError:
            return None
        # The folder belonged to another dataset.
        return known if known.place == self.spec.shown else None


def check(spec: JobSpec, mirror: Mirror, ledger: Ledger) -> tuple[Changes, Seen]:
    """Look at the repository of a job while planning; writes nothing.

    Args:
        spec: the job.
        mirror: its repository.
        ledger: what this machine has committed.

    Returns:
        What another machine has published, and what the repository has.

    Raises:
        SpecError: there is no network by choice, the token cannot write, or the split belongs to another job.
        SinkError: the Hub does not answer.
    """
    mirror.repository.refuse_offline()
    seen = mirror.look()
    mirror.repository.check_token(exists=seen.snapshot.exists)
    _refuse_other_owner(spec, mirror, seen)
    return mirror.changes(ledger, seen), seen


def follow(spec: JobSpec, mirror: Mirror, ledger: Ledger) -> None:
    """Make the ledger agree with the repository, and create that if need be; only the holder of the sink may call this.

    It can be repeated after a kill: what the repository has is remembered last.

    Raises:
        SpecError: as in `check`, or the Hub does not compare a commit's parent with the head.
        SinkError: the Hub does not answer, or the token may not create the repository.
    """
    seen = mirror.look()
    if not seen.snapshot.exists:
        mirror.repository.create(spec.sink.private)
    mirror.repository.check_parents()
    _refuse_other_owner(spec, mirror, seen)
    changes = mirror.changes(ledger, seen)
    entries = ledger.read(look=False)
    for slot in changes.gone:
        ledger.remove(entries[slot])
    for slot, entry in changes.put.items():
        if slot in entries and not published.is_same_part(entries[slot], entry):
            ledger.remove(entries[slot])
        ledger.write(entry)
    if seen.snapshot.commit is None or seen.published is None:
        mirror.forget()
        return
    if changes.put:
        # The report of this night must not count them.
        mirror.store.put(names.RESTORED, json.dumps({"run_id": seen.published.run_id}).encode())
    if owner.read(mirror.store) is None:
        owner.put(mirror.store, seen.published.owner)
    mirror.remember(seen.snapshot.commit, seen.published)


def _refuse_other_owner(spec: JobSpec, mirror: Mirror, seen: Seen) -> None:
    there = None if seen.published is None else seen.published.owner
    job = owner.of(spec, mirror.store)
    if there is None or spec.sink.take_over_from == there.job or (there.job, there.source) == (job.job, job.source):
        return
    raise SpecError(
        f"sink.dataset {mirror.spec.shown} belongs to job {there.job!r} with the source "
        f"{', '.join(map(repr, there.source))}, and this is job {job.job!r} with the source "
        f"{', '.join(map(repr, job.source))}; give this job its own sink.config or sink.split, or take the rows over "
        f"with sink.take_over_from={there.job}"
    )
