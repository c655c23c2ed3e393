"""A folder of a lake as a sink: shards are staged while a run goes on, and published together when it is complete.

    stage    files below `_nightscribe/staged/files`, then an entry in `_nightscribe/staged/ledger`
    commit   `commit.json` says what will be done; file by file, parts move into place and those that they replace are
             deleted; then one change of the ledger enters them all

Shards that a killed run staged count as done for the next one. An interrupted commit is finished by the next run
from `commit.json`. Readers see the old part of a shard until the new one takes its name.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import BinaryIO

from jobs.plan import Plan
from jobs.sink import commit as commits
from jobs.sink.commit import Commit
from jobs.sink.entry import Entry
from jobs.sink.fewer import refuse_fewer_rows
from jobs.sink.ledger import Ledger
from jobs.sink.orphans import delete_orphans, delete_staged_orphans, part_name
from jobs.sink.part import PartWriter
from jobs.sink.published import NO_CHANGES, Changes
from jobs.sink.repository import Mirror
from jobs.sink.rewriting import Rewritten, check_moved
from jobs.sink.table import TablePublisher
from jobs.source import Shard
from jobs.source.content import content_hash
from jobs.spec import SinkSpec
from jobs.store import Store, names


class FolderSink:
    """A folder, local or on an object store.

    Args:
        store: the folder.
        mirror: the dataset repository that its rows are published to, or None.
        changes: of the ledger, which the next run makes before anything else; a plan counts on them.
        table: the job file's section if the sink is a table, whose folder is the store; None otherwise.
    """

    def __init__(
        self, store: Store, mirror: Mirror | None = None, changes: Changes = NO_CHANGES, table: SinkSpec | None = None
    ):
        self.store = store
        self.mirror = mirror
        self.changes = changes
        self.published = Ledger(store, names.LEDGER, is_elsewhere=None if mirror is None else mirror.has)
        self.staged = Ledger(store, names.STAGED_LEDGER, names.STAGED_FILES)
        self.table = None if table is None else TablePublisher(table, store, self.published, self.staged)

    def entries(self, plan: Plan | None = None) -> dict[str, Entry]:
        """The entries of finished shards by slot; a staged entry has precedence over a published one.

        Args:
            plan: if only the published entry of a slot fits this plan, it has precedence. So a stopped run with other
                options does not make the next run redo published shards.
        """
        published, staged = self.published_entries(), self.staged.read() | commits.unfinished(self.store, self.staged)
        shards = {} if plan is None else {shard.slot: shard for shard in plan.shards}
        for slot in published.keys() & staged.keys() & shards.keys():
            assert plan is not None
            if _belongs(published[slot], shards[slot], plan) and not _belongs(staged[slot], shards[slot], plan):
                del staged[slot]
        return published | staged

    @property
    def lost(self) -> frozenset[str]:
        """Slots of published shards whose part files were gone when `entries` last looked; of a table nobody knows."""
        return self.published.lost

    def published_entries(self) -> dict[str, Entry]:
        """The entries of the shards that readers see, by slot."""
        if self.table is not None:
            return self.table.entries()
        return self.changes.applied(self.published.read())

    def donor_entries(self) -> dict[str, Entry]:
        """The entries whose rows results can be taken from, by slot.

        They are the published ones; instead of those whose files another writer has rewritten, one that stands for all
        of these rows has the slot of the first of them, and the files in which the rows are now.
        """
        found = self.published_entries()
        if self.table is None or not (moved := self.table.view.moved):
            return found
        known = {slot: entry for slot, entry in found.items() if slot not in moved}
        return known | ({} if (one := self.table.view.rewritten) is None else {one.slot: one})

    def moved_files(self) -> set[str]:
        """Source files whose rows another writer has moved to other files of the table."""
        return set() if self.table is None else {entry.key for entry in self.table.view.moved.values()}

    def entry(self, slot: str) -> Entry | None:
        """The entry of one slot."""
        if self.table is not None:
            # Rows that another writer has moved to other files cannot be read as those of a shard any more.
            return self.staged.get(slot) or self.table.entry(slot)
        return self.staged.get(slot) or self.published.get(slot)

    def open(self, entry: Entry) -> BinaryIO:
        """Open the part file of an entry, staged or published, for reading."""
        if self.staged.get(entry.slot) == entry:
            return self.store.open(self.staged.file(entry.part, entry.writer))
        if self.mirror is not None and not self.store.exists(entry.part):
            return self.mirror.open(entry)
        return self.open_part(entry.part)

    def open_part(self, name: str) -> BinaryIO:
        """Open a published part file by its name."""
        return self.store.open(name)

    def writer(self, plan: Plan, shard: Shard) -> PartWriter:
        """A writer that stages one shard."""
        return PartWriter(plan, shard, part_name(shard), self.store, self.staged)

    def claim(self, lease: int) -> None:
        """Begin to write under a lease; to be called before anything else that changes the sink.

        Raises:
            SinkBusy: another run has taken the sink over.
        """
        self.published.claim(lease)
        self.staged.claim(lease)

    def tidy(self) -> None:
        """Merge files of the ledger; only the holder of the sink may call this, after the report is written."""
        self.published.tidy()

    def enter_copies(self, plan: Plan) -> None:
        """Give entries of copied files the versions of the copies, so that the next run compares no contents."""
        copied = [shard for shard in plan.shards if shard.slot in plan.copied]
        for ledger in (self.published, self.staged):
            entries = ledger.read() if copied else {}
            # A staged entry and a published one may be of two versions of the file.
            same = [
                replace(entry, version=shard.version, shard=shard.id)
                for shard in copied
                if (entry := entries.get(shard.slot)) is not None
                and entry.content is not None
                and entry.content == content_hash(shard)
            ]
            ledger.update(same)

    def superseded(self, plan: Plan) -> list[Entry]:
        """Published entries that the commit of the plan removes together with their rows.

        These are entries of a planned source file that belong to none of its planned shards (the file changed, or is
        cut differently), and those of files that are gone: always if the source is a table, whose log says what its
        rows are, else with `on_vanished: remove`. A run with a limit ignores files after its limit; one that only tries
        rejected rows again removes nothing.
        """
        if plan.attempts is not None:
            return []
        slots = {shard.slot for shard in plan.shards}
        versions = {shard.key: shard.version for shard in plan.shards}
        limited = plan.spec.source.limit is not None
        gone = []
        for entry in self.published_entries().values():
            if entry.slot in slots:
                continue
            if entry.key in versions:
                if not limited or entry.version != versions[entry.key]:
                    gone.append(entry)
            elif plan.spec.source.table is not None:
                gone += [entry] if entry.key not in plan.left_out else []
            elif plan.spec.sink.on_vanished == "remove" and not limited:
                gone.append(entry)
        return gone

    def moved(self, plan: Plan) -> set[str]:
        """Slots of the shards that a plan has to do again because another writer has rewritten files of the table.

        A table is compacted by others, into files that have rows of many shards. As long as none of these rows is to
        change, the files stay as they are.

        Raises:
            SinkError: it is unknown which rows of these files are of this sink.
        """
        if self.table is None or not (moved := self.table.view.moved):
            return set()
        if plan.spec.sink.key and not self.table.view.is_compacted:
            # Rows of others are among them; those with the keys of new rows are replaced, wherever they are.
            return set()
        shards = {shard.slot: shard for shard in plan.shards}
        staged = {slot for slot, entry in self.staged.read().items() if _belongs(entry, shards.get(slot), plan)}
        changing = {*plan.todo, *staged, *(entry.slot for entry in self.superseded(plan))}
        if not changing & moved.keys():
            return set()
        check_moved(self.table.view)
        return moved.keys() - staged

    def to_publish(self, plan: Plan) -> list[Entry]:
        """The staged entries that the commit of the plan publishes, by part file."""
        planned = {shard.slot: shard for shard in plan.shards}
        if plan.attempts is not None:
            planned = {slot: planned[slot] for slot in plan.attempts}
        staged = self.staged.read().values()
        return sorted((e for e in staged if _belongs(e, planned.get(e.slot), plan)), key=lambda entry: entry.part)

    def commit(self, plan: Plan, check: Callable[[Mapping[str, Entry]], None]) -> list[Entry]:
        """Publish what a plan's runs have staged, and remove what that replaces.

        Args:
            plan: the plan, executed.
            check: called with the future entries; raises if the row counts are wrong. Then nothing is published
                or removed.

        Returns:
            The entries that were removed together with their rows.

        Raises:
            RunError: as raised by `check`.
            SinkError: a source file that did not change would have fewer rows than are published.
            SinkBusy: another commit is under way.
        """
        removed = self.superseded(plan)
        gone = {entry.slot for entry in removed}
        after = {slot: entry for slot, entry in self.entries(plan).items() if slot not in gone}
        check(after)
        staged = self.staged.read()
        wanted = [entry.slot for entry in self.to_publish(plan)]
        if not plan.spec.sink.allow_fewer_rows:
            refuse_fewer_rows(self.published.read(look=False), after, removed)
        record = Commit(wanted, sorted(gone), plan.run_id, plan.lease, uuid.uuid4().hex)
        commits.begin(self.store, record)
        if self.table is None:
            commits.finish(self.store, self.staged, self.published)
        else:
            self._publish_table(record)
        left = {slot: entry for slot, entry in staged.items() if slot not in set(wanted)}
        if plan.spec.source.limit is None and plan.attempts is None:
            # Staged by an earlier plan; not needed, because this plan covers the whole source.
            for entry in left.values():
                for name in self.staged.files_of(entry):
                    self.store.delete(name)
            left = {}
        self.staged.keep_only(left)
        delete_staged_orphans(self.store, self.staged)
        if self.table is None:
            delete_orphans(self.store, self.published.read(look=False).values())
        return removed

    def recover(self) -> None:
        """Finish an interrupted commit; only the holder of the sink may call this. Each step can be repeated."""
        if self.table is None:
            commits.finish(self.store, self.staged, self.published)
        else:
            self.table.forget_dropped()
            if (record := commits.begun(self.store)) is not None:
                with suppress(Rewritten):
                    self._publish_table(record)
        self.staged.tidy()
        delete_staged_orphans(self.store, self.staged)

    def _publish_table(self, record: Commit) -> None:
        """Publish into the table.

        Raises:
            Rewritten: nothing was published, and the staged shards stay for another plan.
        """
        assert self.table is not None
        try:
            self.table.publish(record.id, record.publish, record.remove, record.run_id)
        except Rewritten:
            self.table.give_up()
            commits.end(self.store)
            raise
        commits.end(self.store)


def _belongs(entry: Entry, shard: Shard | None, plan: Plan) -> bool:
    """Whether a staged entry fits the plan."""
    return shard is not None and entry.shard == shard.id and plan.accepts(entry.fingerprint)
