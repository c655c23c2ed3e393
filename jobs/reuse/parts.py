"""The part files that rows are taken from: their rows as hashes, and results of single rows.

A row is named by one number: the number of its piece times 2**32, plus its row in the part file. A piece is the rows of
an entry in one file; an entry has one file, and in a table it may have several, which it shares with others.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs.execute.stop import StopToken
from jobs.plan import Plan
from jobs.reuse import digest
from jobs.reuse.donors import Group
from jobs.reuse.index import Numbers
from jobs.sink import Entry, Sink
from jobs.sink.entry import Piece
from jobs.source.files import partition
from transforms.options import column_of, with_fields

LOG = logging.getLogger(__name__)

# Decoded results that are kept; rows in the order of the older file need those of one row group at a time.
CACHE_BYTES = 256 << 20

# Part files that are kept open.
FILES = 16

_BITS = np.uint64(32)
_ROW = np.uint64((1 << 32) - 1)


@dataclass(frozen=True)
class RowGroup:
    """A row group that has rows of a piece.

    Attributes:
        number: its number in the part file.
        start: its first row in the file.
        first: the first row of the piece in it, in the file.
        last: one past the last of them.
    """

    number: int
    start: int
    first: int
    last: int


class Parts:
    """The part files of some entries.

    Args:
        plan: the run; its columns.
        sink: where the files are.
        entries: the entries.
        stop: checked between two row groups while hashing.
    """

    def __init__(self, plan: Plan, sink: Sink, entries: Sequence[Entry], stop: StopToken):
        self.plan, self.sink, self.entries, self.stop = plan, sink, entries, stop
        self.pieces = [(entry, piece) for entry in entries for piece in entry.places]
        self.numbers: dict[str, list[int]] = {entry.slot: [] for entry in entries}
        for number, (entry, _) in enumerate(self.pieces):
            self.numbers[entry.slot].append(number)
        self.files: OrderedDict[str, tuple[BinaryIO, pq.ParquetFile]] = OrderedDict()
        self.layouts: dict[int, list[RowGroup]] = {}
        self.cache: OrderedDict[tuple[str, int, tuple[str, ...]], pa.RecordBatch] = OrderedDict()
        self.cached = 0
        self.last: tuple[tuple[str, int, tuple[str, ...]], pa.Table] | None = None

    def hashes(self, group: Group) -> Iterator[tuple[np.ndarray[Any, Any], Numbers]]:
        """The rows of a group's entries, row group by row group: (hashes over the columns that it reads, names).

        Raises:
            Stopped: the run was asked to stop.
        """
        for number in (number for slot in group.donors for number in self.numbers[slot]):
            if (file := self._file(number)) is None or (columns := self._columns(group, number, file)) is None:
                continue
            for each in self._layout(number):
                self.stop.check()
                batch = self._read(file, number, each.number, columns).slice(
                    each.first - each.start, each.last - each.first
                )
                batch = with_fields(batch, group.reads)
                hashes = digest.rows([batch.column(column) for column in group.reads])
                yield hashes, np.arange(each.first, each.last, dtype=np.uint64) + (np.uint64(number) << _BITS)

    def are_there(self, names: Numbers) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """Whether the part file of each of these rows still exists."""
        numbers = (names >> _BITS).astype(np.int64)
        return ~np.isin(numbers, [number for number in np.unique(numbers).tolist() if not self._layout(number)])

    def take(self, group: Group, names: Numbers) -> dict[str, pa.Array]:
        """The results of these rows: the column of a task -> a value for each row, in its type in the plan.

        Args:
            group: tasks of the plan.
            names: names of rows, in any order, any number of times.
        """
        schema = pa.schema([self.plan.schema.field(into) for into in group.tasks])
        order = np.argsort(names, kind="stable")
        numbers, rows = (names[order] >> _BITS).astype(np.int64), (names[order] & _ROW).astype(np.int64)
        pieces = [pa.RecordBatch.from_arrays([pa.nulls(0, field.type) for field in schema], schema=schema)]
        for number in np.unique(numbers).tolist():
            own = rows[numbers == number]
            for each in self._layout(number):
                low, high = np.searchsorted(own, [each.first, each.last])
                if low < high:
                    results = self._results(group, number, each.number, schema)
                    pieces.append(results.take(pa.array(own[low:high] - each.start)))
        found = pa.concat_batches(pieces)
        back = np.empty(len(order), np.int64)
        back[order] = np.arange(len(order))
        found = found.take(pa.array(back))
        return dict(zip(group.tasks, found.columns, strict=True))

    def close(self) -> None:
        """Close the files."""
        while self.files:
            self._close_one()

    def _layout(self, number: int) -> list[RowGroup]:
        """The row groups of a piece; none if its file does not exist."""
        if number not in self.layouts:
            file = self._file(number)
            self.layouts[number] = [] if file is None else _row_groups(file, self.pieces[number][1])
        return self.layouts[number]

    def _file(self, number: int) -> pq.ParquetFile | None:
        """The file of a piece; None if it does not exist or is no Parquet, and its rows must be computed."""
        entry, piece = self.pieces[number]
        if piece.part in self.files:
            self.files.move_to_end(piece.part)
            return self.files[piece.part][1]
        try:
            stream = self.sink.open_part(piece.part) if entry.in_table else self.sink.open(entry)
            file = pq.ParquetFile(stream)
        except (FileNotFoundError, pa.ArrowInvalid) as error:
            LOG.warning("nothing is taken over from %s: %s", piece.part, error)
            return None
        self.files[piece.part] = stream, file
        if len(self.files) > FILES:
            self._close_one()
        return file

    def _close_one(self) -> None:
        stream, file = self.files.popitem(last=False)[1]
        file.close()
        stream.close()

    def _columns(self, group: Group, number: int, file: pq.ParquetFile) -> Mapping[str, str | None] | None:
        """The columns to hash, each with its value where only the folder has it (None: in the file, or null there).

        None if the file lacks one of them.
        """
        source = self.plan.source
        entry = self.pieces[number][0]
        # An entry without a shard has rows of many source files, and compaction leaves partition columns out.
        folders = partition(entry.key) if entry.shard else None
        found: dict[str, str | None] = {}
        names, there = set(source.schema.names), set(file.schema_arrow.names)
        for column in group.reads:
            name = column_of(column, names)
            # What `prepare` has made of the value of a folder is not known any more.
            if name in there:
                found[name] = None
            elif folders is not None and name in source.partition_columns and source.prepare_version is None:
                found[name] = folders.get(name)
            else:
                return None
        return found

    def _read(self, file: pq.ParquetFile, number: int, i: int, columns: Mapping[str, str | None]) -> pa.RecordBatch:
        """Columns of a row group, in the types of the source."""
        names = set(file.schema_arrow.names)
        there = [name for name in columns if name in names]
        table = self._decoded(file, self.pieces[number][1].part, i, tuple(there))
        rows = file.metadata.row_group(i).num_rows
        types = {name: self.plan.source.schema.field(name).type for name in columns}
        arrays = [
            _whole(table.column(name)).cast(type_)
            if name in there
            else pa.repeat(pa.scalar(columns[name], type_), rows)
            for name, type_ in types.items()
        ]
        return pa.RecordBatch.from_arrays(arrays, list(columns))

    def _decoded(self, file: pq.ParquetFile, part: str, i: int, names: tuple[str, ...]) -> pa.Table:
        """Columns of a row group; the last one is kept, because the pieces of a table's file follow each other."""
        if self.last is None or self.last[0] != (part, i, names):
            self.last = (part, i, names), file.read_row_group(i, columns=list(names))
        return self.last[1]

    def _results(self, group: Group, number: int, i: int, schema: pa.Schema) -> pa.RecordBatch:
        """The results of the tasks for a row group."""
        entry, piece = self.pieces[number]
        columns = {value: into for into, value in entry.fingerprint.tasks}
        names = tuple(columns[value] for value in group.hashes)
        # Two groups may give the same column other names.
        key = piece.part, i, (*names, *group.tasks)
        if key in self.cache:
            self.cache.move_to_end(key)
            return self.cache[key]
        file = self._file(number)
        assert file is not None, "the part file was there when `are_there` was called"
        table = file.read_row_group(i, columns=list(names))
        # Parquet holds a fixed-size list as a list.
        arrays = [_whole(table.column(name)).cast(field.type) for name, field in zip(names, schema, strict=True)]
        batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
        self.cache[key] = batch
        self.cached += batch.nbytes
        while self.cached > CACHE_BYTES and len(self.cache) > 1:
            self.cached -= self.cache.popitem(last=False)[1].nbytes
        return batch


def _row_groups(file: pq.ParquetFile, piece: Piece) -> list[RowGroup]:
    found, start = [], 0
    for i in range(file.metadata.num_row_groups):
        stop = start + file.metadata.row_group(i).num_rows
        first, last = max(start, piece.first_row), min(stop, piece.first_row + piece.rows)
        if first < last:
            found.append(RowGroup(i, start, first, last))
        start = stop
    return found


def _whole(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks()
