"""What a commit to a table writes and removes: the staged rows, and rows of files that it has to write again.

A file of the table has rows of several shards. If one of them is replaced, the file is removed, and the rows of the
others are copied to a new one. With `sink.key` files that have rows with the key of a new row are written again too,
whoever wrote them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sink.entry import Entry, Piece
from jobs.sink.keys import Keep, last_rows, without
from jobs.sink.packing import Packing, Unit
from jobs.sink.rows import BATCH_ROWS, of_piece
from jobs.spec import SinkSpec
from jobs.store import Store
from jobs.table import Added, DataFile, Snapshot, Table, rows
from transforms.errors import SinkError


class Rewritten(SinkError):
    """Somebody else has rewritten files of this sink since the run was planned; another run plans for that."""


@dataclass(frozen=True)
class View:
    """A table, and what a sink knows of it.

    Attributes:
        spec: the job file's section.
        store: the table's folder.
        table: the table.
        seen: the version that a commit is made for; None if there is no table.
        entries: published entries by slot.
    """

    spec: SinkSpec
    store: Store
    table: Table
    seen: Snapshot | None
    entries: Mapping[str, Entry]

    @cached_property
    def active(self) -> dict[str, DataFile]:
        """Data files of the table by key."""
        return {} if self.seen is None else {file.key: file for file in self.seen.files}

    @cached_property
    def ours(self) -> set[str]:
        """Keys of the data files that entries have."""
        return {piece.part for entry in self.entries.values() for piece in entry.pieces}

    @cached_property
    def moved(self) -> dict[str, Entry]:
        """Entries of which a part file is no longer in the table, because somebody else rewrote it."""
        active = self.active.keys()
        return {s: e for s, e in self.entries.items() if any(piece.part not in active for piece in e.pieces)}

    @property
    def rewritten(self) -> Entry | None:
        """An entry with the files that are not ours, which stands for `moved`; None if tasks or rows differ."""
        moved, others = list(self.moved.values()), sorted(self.active.keys() - self.ours)
        if len({entry.fingerprint.tasks for entry in moved}) != 1 or not self.is_compacted:
            return None
        pieces = tuple(Piece(key, 0, self.active[key].rows or 0) for key in others)
        return replace(moved[0], shard="", pieces=pieces, rows_out=self.rows_moved)

    @property
    def is_compacted(self) -> bool:
        """Whether the files that are not ours have as many rows as others have moved: those rows and no more."""
        return self.rows_moved == self.rows_of_others

    @property
    def rows_moved(self) -> int:
        """Rows of `moved` in files that the table no longer has."""
        active = self.active.keys()
        return sum(p.rows for entry in self.moved.values() for p in entry.pieces if p.part not in active)

    @property
    def rows_of_others(self) -> int:
        """Rows in data files that no entry has."""
        active = self.active
        return sum(active[key].rows or 0 for key in active.keys() - self.ours)

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The partition columns."""
        return tuple(self.spec.partition_by or ()) if self.seen is None else self.seen.partition_columns


@dataclass(frozen=True)
class Rewrite:
    """What a commit writes and removes.

    Attributes:
        add: part files that are in place now.
        remove: data files that they replace, as the table names them.
        put: entries of the shards whose rows are new or at another place.
        schema: columns of the new rows; None if there are none.
    """

    add: tuple[Added, ...]
    remove: tuple[str, ...]
    put: tuple[Entry, ...]
    schema: pa.Schema | None


def write(view: View, staged: Mapping[str, str], new: Sequence[Entry], remove: Collection[str], token: str) -> Rewrite:
    """Write the part files of a commit; no reader knows them yet.

    Args:
        view: the table.
        staged: slot -> its staged part file below the sink.
        new: staged entries, in order.
        remove: slots of published entries whose rows are removed.
        token: a word that begins the names of the files.

    Raises:
        Rewritten: somebody else has rewritten files that this commit replaces.
        SinkError: it is unknown which rows of somebody else's files they are.
    """
    slots = {entry.slot for entry in new}
    replaced = [] if view.spec.mode == "append" else [e for s, e in view.entries.items() if s in slots or s in remove]
    # Those of another writer have no rows but replaced ones.
    dropped = replaced_files = _dropped(view, replaced)
    gone = slots | set(remove)
    left = [entry for slot, entry in view.entries.items() if slot not in gone]
    units = _staged_units(view, staged, new)
    keep = None
    if view.spec.key and new:
        keys = pa.concat_tables([_keys(view, staged[entry.slot]) for entry in new])
        keep = without(keys)
        dropped = dropped | _with_keys(view, keep, dropped)
    packing = Packing(view.store, token, view.partition_by, view.spec.part_mb << 20)
    carried = dropped - (replaced_files - view.ours)
    packing.pack([*_carried_units(view, carried, left, replaced, keep), *units])
    put = [_entered(entry, packing.pieces[entry.slot]) for entry in new]
    for entry in left:
        if any(piece.part in dropped for piece in entry.pieces):
            stay = [piece for piece in entry.pieces if piece.part not in dropped]
            put.append(_entered(entry, [*stay, *packing.pieces.get(entry.slot, [])]))
    names = tuple(sorted(view.active[key].name for key in dropped))
    return Rewrite(tuple(packing.added), names, tuple(put), units[0].schema if units else None)


def check_moved(view: View) -> None:
    """Refuse to replace rows that another writer has moved, unless they are exactly the rows that are not ours now.

    Raises:
        SinkError: with both counts.
    """
    lost, there = view.rows_moved, view.rows_of_others
    if there != lost:
        raise SinkError(
            f"sink.table {view.spec.table!r}: another writer has rewritten {lost:,} rows of this sink, and the files "
            f"that are not of this sink have {there:,}, so it is unknown which of them are to be replaced; set "
            f"sink.key to the columns that identify a row"
        )


def _dropped(view: View, replaced: Sequence[Entry]) -> set[str]:
    """Keys of the data files that a commit removes because it replaces entries."""
    parts, active = {piece.part for entry in replaced for piece in entry.pieces}, view.active
    if wrong := sorted(key for key in parts & active.keys() if active[key].deletes):
        raise SinkError(
            f"sink.table {view.spec.table!r}: another writer has marked rows of {wrong[0]!r} as deleted, and a "
            f"rewrite of the file would bring them back; compact the table, or set sink.key"
        )
    if parts <= active.keys() or (view.spec.key and not view.is_compacted):
        return parts & active.keys()
    moved, others = view.moved, active.keys() - view.ours
    if moved.keys() - {entry.slot for entry in replaced}:
        raise Rewritten(
            f"sink.table {view.spec.table!r}: another writer has rewritten files of this sink since the run was "
            f"planned; run again, finished shards are kept"
        )
    check_moved(view)
    return (parts & active.keys()) | set(others)


def _staged_units(view: View, staged: Mapping[str, str], new: Sequence[Entry]) -> list[Unit]:
    """The rows of staged shards; with `key`, of several rows with the same key only the last one."""
    units = []
    later: pa.Table | None = None
    for entry in reversed(new):
        name = staged[entry.slot]
        stay = None
        if view.spec.key:
            own = _keys(view, name)
            stay = last_rows(own, later)
            later = own if later is None else pa.concat_tables([later, own])
        with view.store.open(name) as stream:
            schema = pq.read_schema(stream)
        count = entry.rows_out if stay is None else stay.true_count
        read = partial(_file_rows, view.store, Piece(name, 0, entry.rows_out), stay)
        units.append(Unit(entry.slot, read, schema, count, view.store.size(name), name if stay is None else None))
    return units[::-1]


def _carried_units(
    view: View, dropped: Collection[str], left: Sequence[Entry], replaced: Sequence[Entry], keep: Keep | None
) -> list[Unit]:
    """The rows in removed files that stay: those of other shards, and with `key` those that nobody replaces.

    Without `key`, files of somebody else are removed only if they have rows that are all replaced.
    """
    units, ours = [], view.ours
    for key in sorted(dropped):
        if key in ours:
            with view.store.open(key) as stream:
                footer = pq.read_metadata(stream)
            size = view.store.size(key) / max(1, footer.num_rows)
            schema = footer.schema.to_arrow_schema().with_metadata(footer.metadata)
            for slot, piece in _staying(key, footer.num_rows, left, replaced):
                read = partial(_kept, partial(_file_rows, view.store, piece), keep)
                units.append(Unit(slot, read, schema, piece.rows, int(size * piece.rows)))
        elif view.spec.key:
            assert view.seen is not None
            file = view.active[key]
            read = partial(_kept, partial(_table_rows, view, file, view.seen.schema.names), keep)
            units.append(Unit(None, read, view.seen.schema, max(1, file.rows or 0), file.size))
    return units


def _staying(key: str, rows: int, left: Sequence[Entry], replaced: Sequence[Entry]) -> list[tuple[str | None, Piece]]:
    """The rows of a file that are not replaced, with their shard; None for those that `mode: append` has left there."""
    found: list[tuple[str | None, Piece]] = [(e.slot, piece) for e in left for piece in e.pieces if piece.part == key]
    gone = [piece for entry in replaced for piece in entry.pieces if piece.part == key]
    at = 0
    for piece in sorted([*(piece for _, piece in found), *gone], key=lambda each: each.first_row):
        if piece.first_row > at:
            found.append((None, Piece(key, at, piece.first_row - at)))
        at = piece.first_row + piece.rows
    return found if at == rows else [*found, (None, Piece(key, at, rows - at))]


def _with_keys(view: View, keep: Keep, dropped: Collection[str]) -> set[str]:
    """Keys of the data files that have rows with one of the new keys."""
    columns = list(view.spec.key or ())

    def has_one(file: DataFile) -> bool:
        return any(len(keep(batch)) < len(batch) for batch in _table_rows(view, file, columns))

    return {key for key, file in view.active.items() if key not in dropped and has_one(file)}


def _keys(view: View, name: str) -> pa.Table:
    with view.store.open(name) as stream:
        return pq.read_table(stream, columns=list(view.spec.key or ()), partitioning=None)


def _file_rows(store: Store, piece: Piece, stay: pa.Array | None = None) -> Iterator[pa.RecordBatch]:
    """The rows of a piece of a file, or some of them."""
    at = 0
    with store.open(piece.part) as stream, pq.ParquetFile(stream) as file:
        for batch in of_piece(file, piece):
            yield batch if stay is None else batch.filter(stay.slice(at, len(batch)))
            at += len(batch)


def _table_rows(view: View, file: DataFile, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The rows of a data file of the table that are not deleted, whoever wrote it."""
    assert view.seen is not None
    schema = pa.schema([view.seen.schema.field(name) for name in columns])
    wanted = [column for name in columns for column in view.seen.columns if column.field.name == name]
    with view.table.open(file) as stream:
        found = rows.read(stream, file.url, (0, 0), wanted, file.deleted, view.seen.ids, file.partition, BATCH_ROWS)
        for _, batch in found:
            yield pa.RecordBatch.from_arrays(
                [batch.column(field.name).cast(field.type) for field in schema], schema=schema
            )


def _kept(read: Callable[[], Iterator[pa.RecordBatch]], keep: Keep | None) -> Iterator[pa.RecordBatch]:
    for batch in read():
        yield batch if keep is None else keep(batch)


def _entered(entry: Entry, pieces: Sequence[Piece]) -> Entry:
    """The entry as it will be in the ledger."""
    return replace(entry, part=pieces[0].part if pieces else entry.part, pieces=tuple(pieces), in_table=True)
