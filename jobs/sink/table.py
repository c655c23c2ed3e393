"""Publishing into a table: the staged shards of a run become part files, and one transaction makes them rows.

    pack      staged rows are copied to part files in the table's folder, which no reader knows yet; `table_commit.json`
              says what the transaction will be
    commit    one transaction of the table adds these files and removes those that they replace
    enter     the ledger takes the entries, the staged shards are deleted

A crash between two steps is found by the id of the commit: the table says whether it has it. A transaction is made on
top of the version that was looked at, and never on a later one, so that a process which has lost the sink can neither
add rows twice nor remove newer ones. Files are deleted only when it is certain that no version of the table has them.
"""

from __future__ import annotations

import base64
import json
import logging
import random
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from pydantic import TypeAdapter

from jobs.sink import rewriting
from jobs.sink.entry import Entry
from jobs.sink.ledger import Ledger
from jobs.sink.rewriting import Rewritten, View
from jobs.spec import SinkSpec
from jobs.store import Store, names
from jobs.table import Added, Conflict, Snapshot, open_table
from transforms.errors import SinkError, UnreadableSink

LOG = logging.getLogger(__name__)

ATTEMPTS = 8

# Before the second attempt; doubled for each further one.
PAUSE_S = 0.2


@dataclass(frozen=True)
class _Transaction:
    """What a commit does to the table and to the ledger.

    Attributes:
        commit: id of the commit.
        token: part of the names of its files.
        add: part files that are in place.
        remove: data files of the table that they replace, as the table names them.
        put: entries of the shards, published.
        gone: slots of the entries that are removed.
        schema: base64 of the Arrow schema of the rows; None if there are none.
        properties: kept with the commit.
    """

    commit: str
    token: str
    add: tuple[Added, ...]
    remove: tuple[str, ...]
    put: tuple[Entry, ...]
    gone: tuple[str, ...]
    schema: str | None
    properties: dict[str, str]


_TRANSACTION = TypeAdapter(_Transaction)


class TablePublisher:
    """The table of a sink, as far as a run publishes into it.

    Args:
        spec: the job file's section, with a table.
        store: the table's folder.
        published: entries of shards that are in the table.
        staged: entries of shards that are not published yet.
    """

    def __init__(self, spec: SinkSpec, store: Store, published: Ledger, staged: Ledger):
        assert spec.table is not None
        self.spec = spec
        self.url = spec.table
        self.store, self.published, self.staged = store, published, staged
        self.table = open_table(spec.table)
        self._seen: Snapshot | None = None
        self._landed: _Transaction | None = None
        self._looked = False

    @property
    def seen(self) -> Snapshot | None:
        """The newest version when this process first looked, or last published; None if there is no table."""
        if not self._looked:
            begun = self._begun()
            self._seen, self._looked = self.table.snapshot(), True
            self._landed = begun if begun is not None and self.table.committed(begun.commit) else None
        return self._seen

    def look(self) -> Snapshot | None:
        """The newest version of the table."""
        self._looked = False
        return self.seen

    def entries(self) -> dict[str, Entry]:
        """The published entries; none if the table was dropped since, even if there is another one of its name.

        Those of a commit that the table has count, although a crash kept them out of the ledger.
        """
        known = self.published.read(look=False)
        if known and self._id() != (None if self.seen is None else self.seen.id):
            known = {}
        if self.seen is None or self._landed is None:
            return known
        put = {entry.slot: entry for entry in self._landed.put}
        return {slot: entry for slot, entry in known.items() if slot not in self._landed.gone} | put

    def entry(self, slot: str) -> Entry | None:
        """The published entry of a slot, if its rows are in the part files that it names."""
        entry = self.entries().get(slot)
        return None if entry is None or slot in self.view.moved else entry

    @property
    def view(self) -> View:
        """The table as `seen`, with the published entries."""
        return View(self.spec, self.store, self.table, self.seen, self.entries())

    def publish(self, commit: str, publish: Iterable[str], remove: Iterable[str], run_id: str) -> None:
        """Publish staged shards and remove published ones, in one transaction; each step can be repeated.

        Args:
            commit: id of the commit.
            publish: slots of staged entries.
            remove: slots of published entries.
            run_id: the run that commits.

        Raises:
            Rewritten: nothing was published.
            SinkError: the table cannot be written, or other writers keep committing.
        """
        self.look()
        found = self._begun()
        if found is None or found.commit != commit:
            found = self._packed(commit, list(publish), list(remove), run_id)
            self.store.put(names.TABLE_COMMIT, json.dumps(_TRANSACTION.dump_python(found, mode="json")).encode())
        self._commit(found)
        self.look()
        self._enter(found)

    def give_up(self) -> None:
        """Forget a commit that the table does not have and cannot get any more; staged shards stay."""
        self.store.delete(names.TABLE_COMMIT)

    def forget_dropped(self) -> None:
        """Empty the ledger if the table was dropped since; only the holder of the sink may call this."""
        if (known := self.published.read(look=False)) and not self.entries():
            self.published.update((), known)
            for entry in known.values():
                for name in entry.files:
                    self.store.delete(name)

    def _id(self) -> str | None:
        """Id of the table that the ledger is about."""
        try:
            return str(json.loads(self.store.get(names.TABLE))["id"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise UnreadableSink(
                f"{self.store.url}/{names.TABLE} is damaged, so it is unknown which table the ledger is about; restore "
                f"the file"
            ) from error

    def _begun(self) -> _Transaction | None:
        """The transaction of a commit that has begun."""
        try:
            return _TRANSACTION.validate_json(self.store.get(names.TABLE_COMMIT))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UnreadableSink(
                f"{self.store.url}/{names.TABLE_COMMIT} is damaged, so that the interrupted commit cannot be finished; "
                f"restore the file"
            ) from error

    def _packed(self, commit: str, publish: Sequence[str], remove: Sequence[str], run_id: str) -> _Transaction:
        """Write the part files of a commit."""
        staged = self.staged.read(look=False)
        new = sorted((staged[slot] for slot in publish if slot in staged), key=lambda each: (each.key, each.start))
        token = uuid.uuid4().hex[:16]
        self.store.put(f"{names.PACKS}/{token}.json", json.dumps({"commit": commit}).encode())
        files = {entry.slot: self.staged.file(entry.part, entry.writer) for entry in new}
        view = self.view
        made = rewriting.write(view, files, new, remove, token)
        properties = {
            "nightscribe.commit": commit,
            "nightscribe.run": run_id,
            "nightscribe.fingerprint": new[0].fingerprint.digest if new else "",
            "nightscribe.lease": str(max((entry.lease for entry in new), default=0)),
        }
        schema = None if made.schema is None else _packed_schema(made.schema)
        gone = tuple(sorted(set(remove) & view.entries.keys()))
        return _Transaction(commit, token, made.add, made.remove, made.put, gone, schema, properties)

    def _commit(self, transaction: _Transaction) -> None:
        """Make the transaction once, whoever else commits.

        Whether a commit that failed has landed is looked up before it is tried again: its id says so.
        """
        failed: SinkError | None = None
        for attempt in range(ATTEMPTS):
            if attempt:
                time.sleep(PAUSE_S * 2 ** (attempt - 1) * random.uniform(0.5, 1))
            try:
                if self.table.committed(transaction.commit):
                    return
            except SinkError as error:
                LOG.warning("%s; looking again", error)
                failed = error
                continue
            seen = self.look()
            if seen is None:
                if transaction.schema is None:
                    return
                self.table.create(_unpacked_schema(transaction.schema), self.view.partition_by, self.store.url)
                seen = self.look()
                assert seen is not None
            if not transaction.add and not transaction.remove:
                return
            if lost := set(transaction.remove) - {file.name for file in seen.files}:
                raise Rewritten(
                    f"sink.table {self.url!r}: another writer has removed {sorted(lost)[0]!r} while this run was "
                    f"committing; run again, finished shards are kept"
                )
            schema = seen.schema if transaction.schema is None else _unpacked_schema(transaction.schema)
            try:
                self.table.commit(transaction.add, transaction.remove, schema, seen, transaction.properties)
            except Conflict:
                continue
            except SinkError as error:
                LOG.warning("%s; looking whether the commit has landed", error)
                failed = error
                continue
            return
        raise failed or SinkError(
            f"sink.table {self.url!r}: other writers have committed {ATTEMPTS} times while this run tried to; run "
            f"again, finished shards are kept"
        )

    def _enter(self, transaction: _Transaction) -> None:
        """Bring the ledger up to date, delete the staged shards, and files of attempts that cannot land any more."""
        staged, before = self.staged.read(look=False), self.published.read(look=False)
        slots = {entry.slot for entry in transaction.put}
        for entry in transaction.put:
            if entry.rejected is not None and entry.slot in staged:
                self.store.move(self.staged.file(entry.rejected, staged[entry.slot].writer), entry.rejected)
        if self.seen is not None:
            self.store.put(names.TABLE, json.dumps({"id": self.seen.id}).encode())
        self.published.update(transaction.put, transaction.gone)
        kept = {name for entry in transaction.put for name in entry.files}
        for slot in (slots | set(transaction.gone)) & before.keys():
            for name in set(before[slot].files) - kept:
                self.store.delete(name)
        done = [staged[slot] for slot in slots & staged.keys()]
        self.staged.update((), [entry.slot for entry in done])
        for entry in done:
            self.store.delete(self.staged.file(entry.part, entry.writer))
        if transaction.add or transaction.remove:
            self._delete_orphans(transaction.token)
        self.store.delete(names.TABLE_COMMIT)

    def _delete_orphans(self, token: str) -> None:
        """Delete files of earlier attempts at a commit, after a newer one has landed.

        A transaction is made on one version of the table, so none of theirs can land on the present one.
        """
        mark = f"{names.PACKS}/{token}.json"
        known = {name.rsplit("/", 1)[-1].removesuffix(".json"): name for name in self.store.names(names.PACKS)}
        if earlier := {word: name for word, name in known.items() if word != token}:
            active = {file.key for file in self.seen.files} if self.seen is not None else set()
            for name in self.store.find(".parquet"):
                word = name.rsplit("/", 1)[-1].partition("-")[0]
                if word in earlier and name not in active and name.startswith("data/"):
                    self.store.delete(name)
            for name in earlier.values():
                self.store.delete(name)
        self.store.delete(mark)


def _packed_schema(schema: pa.Schema) -> str:
    return base64.b64encode(schema.remove_metadata().serialize()).decode()


def _unpacked_schema(text: str) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))
