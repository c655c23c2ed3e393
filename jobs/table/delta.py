"""Delta Lake tables, by the package `deltalake`: a snapshot is read from the log, without listing a folder."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, DeltaProtocolError, TableNotFoundError

from jobs.source.remote import RemoteFile
from jobs.source.urls import open_url, reason
from jobs.spec.table import delta_folder
from jobs.store.conditional import is_object_store
from jobs.table import NONE_DELETED, Added, DataFile, Snapshot, delta_commit
from jobs.table.columns import Column, inside, plain, renamed
from jobs.table.rows import identity
from transforms.errors import SourceError, SpecError

# Features of a table that a reader must know, and that are honoured here. A table with any other one is refused.
FEATURES = {
    "columnMapping",
    "deletionVectors",
    "timestampNtz",
    "typeWidening",
    "typeWidening-preview",
    "v2Checkpoint",
    "vacuumProtocolCheck",
}

# Commits in which the origin of new files is looked for.
COMMITS = 100

# The metadata of a field of a table whose columns were renamed: its name in data files.
PHYSICAL = b"delta.columnMapping.physicalName"


@dataclass(frozen=True)
class Delta:
    """A Delta Lake table.

    Attributes:
        location: absolute path or URL of its folder.
        key: the key of the job file that names it.
    """

    location: str
    key: str

    def version(self, version: int | None = None, timestamp: datetime | None = None) -> int | None:
        """The number of a version: see `jobs.table.Table`."""
        with self._explained():
            table = self._at(version, timestamp)
            return None if table is None else table.version()

    def snapshot(self, version: int | None = None, timestamp: datetime | None = None) -> Snapshot | None:
        """A version of the table: see `jobs.table.Table`."""
        with self._explained():
            table = self._at(version, timestamp)
            if table is None:
                return None
            self._check(table)
            return self._snapshot(table)

    def compacted(self, version: int, names: Collection[str]) -> set[str]:
        """The files that were added without a change of the rows: see `jobs.table.Table`."""
        fs, folder = open_url(self.location)
        left, found = set(names), set()
        for number in range(version, max(-1, version - COMMITS), -1):
            if not left:
                break
            try:
                lines = fs.cat_file(f"{folder}/_delta_log/{number:020}.json").splitlines()
            except OSError:
                # Cleaned up, because there is a checkpoint.
                break
            for added in (action.get("add") for action in map(json.loads, lines)):
                if added is not None and added["path"] in left:
                    left.remove(added["path"])
                    found |= set() if added["dataChange"] else {added["path"]}
        return found

    def open(self, file: DataFile) -> BinaryIO:
        """Open a data file for reading."""
        fs, path = open_url(file.url)
        if is_object_store(fs):
            return RemoteFile(fs, path, None, file.size).open_parts(path)
        return cast(BinaryIO, fs.open(path, "rb"))

    def create(self, schema: pa.Schema, partition_by: Sequence[str], location: str) -> None:
        """Create the table without rows: see `jobs.table.Table`."""
        delta_commit.create(self.location, storage_options(self.location), schema, partition_by)

    def commit(
        self,
        add: Sequence[Added],
        remove: Sequence[str],
        schema: pa.Schema,
        seen: Snapshot,
        properties: Mapping[str, str],
    ) -> int:
        """Add and remove files in one transaction: see `jobs.table.Table`."""
        options = storage_options(self.location)
        return delta_commit.commit(self.location, options, add, remove, schema, seen, properties)

    def committed(self, commit: str) -> bool:
        """Whether the table has a commit: see `jobs.table.Table`."""
        return delta_commit.committed(self.location, storage_options(self.location), commit)

    def load(self, version: int | None = None) -> DeltaTable | None:
        """The handle of a version of the table; None if the table does not exist.

        Raises:
            SpecError: there is no such version.
        """
        options = storage_options(self.location)
        try:
            table = DeltaTable(self.location, storage_options=options)
        except TableNotFoundError:
            return None
        if version is not None and version != table.version():
            try:
                table.load_as_version(version)
            except DeltaError as error:
                raise SpecError(
                    f"source.version {version} of 'delta://{self.location}' cannot be read; versions up to "
                    f"{table.version()} exist, if their log was not cleaned up: {reason(error)}"
                ) from error
        return table

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except DeltaProtocolError as error:
            raise SpecError(f"{self.key} 'delta://{self.location}' cannot be read: {reason(error)}") from error
        except (DeltaError, OSError) as error:
            # The package colours its messages.
            said = re.sub(r"\x1b\[\d*m", "", reason(error))
            raise SourceError(f"{self.key} 'delta://{self.location}' cannot be read: {said}") from error

    def _at(self, version: int | None, timestamp: datetime | None) -> DeltaTable | None:
        table = self.load(version)
        if table is not None and timestamp is not None:
            self._travel(table, timestamp)
        return table

    def _travel(self, table: DeltaTable, timestamp: datetime) -> None:
        """Load the version that was the newest at a time.

        Raises:
            SpecError: the table did not exist, or its log no longer goes back to that time.
        """
        when = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp
        newest = table.version()
        table.load_as_version(when)
        # Before the first version deltalake loads the first version. The history begins with the newest one.
        first = table.history(newest - table.version() + 1)[-1]
        begun = datetime.fromtimestamp(first["timestamp"] / 1000, UTC)
        if begun > when:
            raise SpecError(
                f"source.timestamp {timestamp.isoformat()} is before the first version of 'delta://{self.location}' "
                f"in its log, version {table.version()} of {begun.isoformat()}; give a later time"
            )

    def _check(self, table: DeltaTable) -> None:
        """Refuse a table with a feature that is not honoured here.

        Raises:
            SpecError: with its name.
        """
        unknown = sorted(set(table.protocol().reader_features or ()) - FEATURES)
        mode = table.metadata().configuration.get("delta.columnMapping.mode", "none")
        if mode not in ("none", "name"):
            unknown.append(f"columnMapping by {mode}")
        if unknown:
            raise SpecError(
                f"{self.key} 'delta://{self.location}' has the table feature {unknown[0]}, which cannot be read; "
                f"features that can: {', '.join(sorted(FEATURES))}; drop the feature, or give a copy without it"
            )

    def _snapshot(self, table: DeltaTable) -> Snapshot:
        metadata = table.metadata()
        columns = tuple(_column(field) for field in pa.schema(table.schema().to_arrow()))
        actions = pa.table(table.get_add_actions())
        names = actions["path"].to_pylist()
        urls = [self._url(name) for name in names]
        deleted = _deleted(table) if "deletionVectors" in (table.protocol().reader_features or ()) else {}
        partitions = actions["partition"].to_pylist() if "partition" in actions.column_names else [{}] * len(names)
        bounds = _bounds(actions, columns)
        files = [
            DataFile(
                name=name,
                key=unquote(name) if _is_below(name) else url,
                url=url,
                size=size,
                rows=None if rows is None else rows - len(gone),
                partition=partition,
                deletes=identity(gone),
                deleted=gone,
                bounds={column: values[i] for column, values in bounds.items() if None not in values[i]},
            )
            for i, (name, url, size, rows, partition) in enumerate(
                zip(
                    names,
                    urls,
                    actions["size_bytes"].to_pylist(),
                    actions["num_records"].to_pylist(),
                    partitions,
                    strict=True,
                )
            )
            for gone in [deleted.get(url, NONE_DELETED)]
        ]
        return Snapshot(
            id=str(metadata.id),
            version=table.version(),
            schema=pa.schema([column.field for column in columns]),
            partition_columns=tuple(metadata.partition_columns),
            files=sorted(files, key=lambda file: file.key),
            location=self.location,
            columns=columns,
            renamed=renamed([*_renamed(columns)]),
        )

    def _url(self, name: str) -> str:
        """Path or URL of a data file; the log has names as parts of URLs, and whole URLs for files elsewhere."""
        if _is_below(name):
            return f"{self.location}/{unquote(name)}"
        return unquote(name.removeprefix("file://")) if "://" not in name.removeprefix("file://") else unquote(name)


def open_table(url: str, key: str) -> Delta:
    """The table of that name, which need not exist."""
    folder = str(delta_folder(url)).removeprefix("file://")
    if "://" not in folder:
        folder = os.path.abspath(os.path.expanduser(folder))
    return Delta(folder.rstrip("/") or "/", key)


def storage_options(location: str) -> dict[str, str]:
    """Options that the package does not take from the environment by itself; credentials it does."""
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL", "")
    if not location.startswith(("s3://", "s3a://")) or not endpoint:
        return {}
    return {"aws_endpoint": endpoint} | ({"aws_allow_http": "true"} if endpoint.startswith("http://") else {})


def _column(field: pa.Field) -> Column:
    """A column by its name in data files, which differs if the columns of the table are mapped."""
    physical = (field.metadata or {}).get(PHYSICAL, field.name.encode()).decode()
    return Column(
        pa.field(field.name, plain(field.type)), physical, tuple(_column(each) for each in inside(field.type))
    )


def _renamed(columns: Sequence[Column], above: str = "") -> Iterator[str]:
    """Columns whose names differ from those in data files, with both."""
    for column in columns:
        if column.key != column.field.name:
            yield f"{above}{column.field.name}={column.key}"
        yield from _renamed(column.children, f"{above}{column.field.name}.")


def _bounds(actions: pa.Table, columns: tuple[Column, ...]) -> dict[str, list[tuple[Any, Any]]]:
    """Column -> (least, greatest) value by file; only of types whose statistics are never cut short."""
    found = {}
    if "min" not in actions.column_names or "max" not in actions.column_names:
        return {}
    least, greatest = actions["min"].combine_chunks(), actions["max"].combine_chunks()
    for column in columns:
        type_, name = column.field.type, str(column.key)
        if not (pa.types.is_integer(type_) or pa.types.is_date32(type_)):
            continue
        if least.type.get_field_index(name) >= 0 and greatest.type.get_field_index(name) >= 0:
            pair = least.field(name).to_pylist(), greatest.field(name).to_pylist()
            found[column.field.name] = list(zip(*pair, strict=True))
    return found


def _deleted(table: DeltaTable) -> Mapping[str, np.ndarray]:
    """URL of a data file -> positions of its deleted rows."""
    found = {}
    for batch in pa.RecordBatchReader.from_stream(table.deletion_vectors()):
        for url, kept in zip(batch["filepath"].to_pylist(), batch["selection_vector"], strict=True):
            # Rows after the end of the vector are not deleted.
            gone = np.flatnonzero(~kept.values.to_numpy(zero_copy_only=False))
            found[unquote(url.removeprefix("file://"))] = gone
    return found


def _is_below(name: str) -> bool:
    return "://" not in name and not name.startswith("/")
