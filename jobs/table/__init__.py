"""Tables of a lake: Delta Lake and Iceberg behind one interface, by the formats' own libraries.

A table is named as in a job file: `delta://FOLDER` or `iceberg://catalog/namespace.name`. A snapshot lists the data
files of one version from the table's log or manifests, so that no folder is listed.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, BinaryIO, Protocol, cast

import numpy as np
import pyarrow as pa

from jobs.spec.table import delta_folder
from jobs.table.columns import Column
from transforms.errors import SpecError

# No row of a file is deleted.
NONE_DELETED = np.array([], np.int64)


@dataclass(frozen=True)
class DataFile:
    """A data file of a snapshot.

    Attributes:
        name: what the table calls it: of Delta its path below the table's folder, of Iceberg its absolute location.
        key: its path below the table's location, or the whole location if it lies elsewhere.
        url: path or URL to open it with.
        size: bytes.
        rows: its rows that are not deleted; None if the log does not say so.
        partition: partition column -> value, in Python's types; of Iceberg those that are partitioned by identity.
        deletes: identity of its deleted rows (by a deletion vector or delete files); empty if there are none.
        deleted: positions of its deleted rows, from 0, in order.
        bounds: column -> (least, greatest) value in the file, or beyond them; only of whole numbers and dates.
    """

    name: str
    key: str
    url: str
    size: int
    rows: int | None
    partition: Mapping[str, Any] = field(default_factory=dict)
    deletes: str = ""
    deleted: np.ndarray = field(default_factory=lambda: NONE_DELETED, repr=False, compare=False)
    bounds: Mapping[str, tuple[Any, Any]] = field(default_factory=dict, repr=False, compare=False)


@dataclass(frozen=True)
class Snapshot:
    """A version of a table.

    Attributes:
        id: id of the table itself, which changes when it is dropped and made anew.
        version: version (Delta) or id of the snapshot (Iceberg); -1 for an Iceberg table without one.
        schema: columns, partition columns among them.
        partition_columns: columns by which the files are divided, in order.
        files: the data files, by key.
        location: path or URL of the table's folder.
        columns: how the columns of `schema` are found in data files, in the same order.
        ids: path of a field -> id, for data files without ids of fields (Iceberg).
        renamed: the columns whose names stand for other fields of the files than once; empty if there are none. It
            changes when a column of the same name has other values in the same files.
    """

    id: str
    version: int
    schema: pa.Schema
    partition_columns: tuple[str, ...]
    files: Sequence[DataFile]
    location: str
    columns: tuple[Column, ...] = ()
    ids: Mapping[str, int] = field(default_factory=dict)
    renamed: str = ""


@dataclass(frozen=True)
class Added:
    """A part file, complete and in its place below the table's location, that a commit adds.

    Attributes:
        name: below the location.
        size: bytes.
        rows: number of rows.
        partition: partition column -> value of all its rows.
    """

    name: str
    size: int
    rows: int
    partition: Mapping[str, Any] = field(default_factory=dict)


class Conflict(Exception):
    """Another writer committed first; nothing was written by this commit."""


class Table(Protocol):
    """One table; each call sees its newest version."""

    def version(self, version: int | None = None, timestamp: datetime | None = None) -> int | None:
        """The number of a version, by default of the newest; None if the table does not exist.

        Raises:
            SpecError: there is no such version.
            SourceError: its store or catalog does not answer.
        """
        ...

    def snapshot(self, version: int | None = None, timestamp: datetime | None = None) -> Snapshot | None:
        """A version of the table, by default the newest; None if the table does not exist.

        Raises:
            SpecError: there is no such version, or the table has a feature that cannot be read.
            SourceError: its store or catalog does not answer.
        """
        ...

    def compacted(self, version: int, names: Collection[str]) -> set[str]:
        """Of some data files, by their names, those that a compaction wrote, as far as the newest part of the log says.

        Args:
            version: that has these files.
            names: of the data files.
        """
        ...

    def open(self, file: DataFile) -> BinaryIO:
        """Open a data file for reading.

        Raises:
            OSError: it no longer exists, or its store does not answer.
        """
        ...

    def create(self, schema: pa.Schema, partition_by: Sequence[str], location: str) -> None:
        """Create the table without rows; no effect if it exists."""
        ...

    def commit(
        self,
        add: Sequence[Added],
        remove: Sequence[str],
        schema: pa.Schema,
        seen: Snapshot,
        properties: Mapping[str, str],
    ) -> int:
        """Add and remove files in one transaction on top of a snapshot.

        Args:
            add: part files that are in place.
            remove: `DataFile.name`s of the snapshot.
            schema: columns that the table has afterwards; new ones are added.
            seen: the snapshot that the caller has looked at; a newer one is a conflict.
            properties: kept with the commit; `committed` finds `nightscribe.commit` among them.

        Returns:
            The new version.

        Raises:
            Conflict: somebody else has committed since.
            SinkError: the table cannot be written.
        """
        ...

    def committed(self, commit: str) -> int | None:
        """The version whose property `nightscribe.commit` has this value; None if there is none."""
        ...


def open_table(url: str, key: str = "sink.table") -> Table:
    """The table of that name, which need not exist.

    Args:
        url: as in a job file.
        key: the key that names it, for errors.

    Raises:
        SpecError: its library is not installed, or its catalog is not configured.
    """
    name, package = ("delta", "deltalake") if delta_folder(url) is not None else ("iceberg", "pyiceberg")
    try:
        module = importlib.import_module(f"jobs.table.{name}")
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != package:
            raise
        raise SpecError(f"{key} {url!r} needs {package}; pip install 'nightscribe[{name}]'") from error
    return cast(Table, module.open_table(url, key))
