"""Rows of many shards -> part files of a table, each of one partition and about the size that is wanted.

A shard that fills a file by itself keeps its file; smaller ones are copied together.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import pyarrow as pa

from jobs.sink.entry import Piece
from jobs.sink.part import SOURCE, SOURCE_VERSION, Table
from jobs.store import Store
from jobs.table import Added

# Files that are written at the same time, each of another partition.
OPEN_FILES = 64

# A file of this share of the wanted size is not copied together with others.
FULL = 0.5

Values = tuple[Any, ...]


@dataclass(frozen=True)
class Unit:
    """Rows that go into the table.

    Attributes:
        slot: the shard that they belong to; None for rows of somebody else.
        read: gives the rows.
        schema: their columns; the metadata becomes the footer's.
        rows: how many.
        size: about how many bytes they take in a file.
        file: a file below the sink that has exactly these rows and can be taken as it is; None if there is none.
    """

    slot: str | None
    read: Callable[[], Iterator[pa.RecordBatch]]
    schema: pa.Schema
    rows: int
    size: int
    file: str | None = None


@dataclass
class _File:
    """A part file being written."""

    name: str
    table: Table
    partition: Values
    bytes_in: int = 0


@dataclass
class Packing:
    """Writes part files.

    Args:
        store: the table's folder.
        token: a word that is part of the name of each file.
        partition_by: partition columns.
        target: wanted size of a file in bytes.

    Attributes:
        added: files that are complete.
        pieces: slot -> where its rows are.
    """

    store: Store
    token: str
    partition_by: Sequence[str]
    target: int
    added: list[Added] = field(default_factory=list)
    pieces: dict[str, list[Piece]] = field(default_factory=dict)
    _open: dict[tuple[str, Values], _File] = field(default_factory=dict)
    _names: int = 0

    def pack(self, units: Iterable[Unit]) -> None:
        """Write the rows of all units; the files are in their places afterwards, and no reader knows them."""
        try:
            for unit in units:
                if unit.slot is not None:
                    self.pieces.setdefault(unit.slot, [])
                if unit.rows and not self._taken(unit):
                    for batch in unit.read():
                        for partition, rows in _split(batch, self.partition_by):
                            self._write(unit, partition, rows)
            for key in list(self._open):
                self._close(key)
        finally:
            for file in self._open.values():
                file.table.discard()

    def _taken(self, unit: Unit) -> bool:
        """Take the file of a unit as it is if it is full and of one partition; whether it was taken."""
        if unit.file is None or unit.slot is None or unit.size < FULL * self.target:
            return False
        found: set[Values] = set()
        for batch in unit.read() if self.partition_by else ():
            found.update(values for values, _ in _split(batch, self.partition_by))
            if len(found) > 1:
                return False
        partition = next(iter(found), ())
        name = self._name(partition)
        self.store.copy(unit.file, name)
        self._add(name, unit.size, unit.rows, partition)
        self.pieces[unit.slot].append(Piece(name, 0, unit.rows))
        return True

    def _write(self, unit: Unit, partition: Values, rows: pa.RecordBatch) -> None:
        # Rows of an earlier night may have other columns.
        key = (unit.schema.remove_metadata().to_string(), partition)
        if key not in self._open:
            if len(self._open) >= OPEN_FILES:
                self._close(max(self._open, key=lambda each: self._open[each].bytes_in))
            self._open[key] = _File(
                self._name(partition), Table(self.store.temporary(), _footer(unit.schema)), partition
            )
        file = self._open[key]
        if unit.slot is not None:
            _extend(self.pieces[unit.slot], Piece(file.name, file.table.rows, len(rows)))
        file.table.write(rows)
        file.bytes_in += unit.size * len(rows) // unit.rows
        if file.bytes_in >= self.target:
            self._close(key)

    def _close(self, key: tuple[str, Values]) -> None:
        file = self._open[key]
        file.table.close()
        size = os.path.getsize(file.table.path)
        self.store.publish(file.table.path, file.name)
        file.table.path.unlink(missing_ok=True)
        self._add(file.name, size, file.table.rows, file.partition)
        del self._open[key]

    def _add(self, name: str, size: int, rows: int, partition: Values) -> None:
        self.added.append(Added(name, size, rows, dict(zip(self.partition_by, partition, strict=False))))

    def _name(self, partition: Values) -> str:
        """A name of characters that need no escape in a URL; the table itself knows the partition values."""
        folders = [f"{column}={value}" for column, value in zip(self.partition_by, partition, strict=False)]
        safe = [re.sub(r"[^A-Za-z0-9._=-]", "_", quote(each)[:80]) for each in folders]
        self._names += 1
        return "/".join(["data", *safe, f"{self.token}-{self._names:05d}.parquet"])


def _split(batch: pa.RecordBatch, columns: Sequence[str]) -> Iterator[tuple[Values, pa.RecordBatch]]:
    """The rows of a batch by their partition values, in order."""
    if not columns or not len(batch):
        if len(batch):
            yield (), batch
        return
    keys = pa.table({name: batch.column(name) for name in columns})
    keys = keys.append_column("_row", pa.array(range(len(batch)), pa.int64()))
    groups = keys.group_by(list(columns)).aggregate([("_row", "list")])
    for row in groups.to_pylist():
        values = tuple(row[name] for name in columns)
        rows = pa.array(sorted(row["_row_list"]), pa.int64())
        yield values, batch if len(rows) == len(batch) else batch.take(rows)


def _extend(pieces: list[Piece], piece: Piece) -> None:
    """Add a piece, as part of the last one if it follows it."""
    if pieces and pieces[-1].part == piece.part and pieces[-1].first_row + pieces[-1].rows == piece.first_row:
        piece = Piece(piece.part, pieces[-1].first_row, pieces.pop().rows + piece.rows)
    pieces.append(piece)


def _footer(schema: pa.Schema) -> pa.Schema:
    """The schema with the models in its metadata and without the source file, because there are several."""
    metadata = {key: value for key, value in (schema.metadata or {}).items() if key.startswith(b"nightscribe.")}
    for key in (SOURCE, SOURCE_VERSION):
        metadata.pop(key.encode(), None)
    return schema.with_metadata(metadata)
