"""Iceberg tables, by the package `pyiceberg`: a snapshot is read from manifests, without listing a folder.

Catalogs are configured as for every program with that package: `.pyiceberg.yaml`, or variables such as
`PYICEBERG_CATALOG__LAKE__URI`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import reduce
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError
from pyiceberg.io import pyarrow as arrow_io
from pyiceberg.manifest import DataFile as Listed
from pyiceberg.manifest import DataFileContent, FileFormat
from pyiceberg.table import FileScanTask, Table
from pyiceberg.table.snapshots import Operation
from pyiceberg.table.snapshots import Snapshot as Version
from pyiceberg.transforms import IdentityTransform
from pyiceberg.utils.config import Config
from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from jobs.source.urls import reason
from jobs.spec.table import iceberg_name
from jobs.table import NONE_DELETED, Added, DataFile, Snapshot, iceberg_commit, iceberg_files
from jobs.table.columns import renamed
from transforms.errors import NightscribeError, SinkError, SourceError, SpecError

# Delete files that are read concurrently.
THREADS = 16

# Snapshots in which the origin of new files is looked for.
SNAPSHOTS = 100

# What Arrow and the clients of catalogs say if a store or a catalog has no time now; Arrow repeats only some of these.
_BUSY = re.compile(r"HTTP status (429|5\d\d)|slow.?down|too many requests|network.connection|timed? ?out|reset", re.I)


def _is_busy(error: BaseException) -> bool:
    return isinstance(error, SourceError | SinkError) and _BUSY.search(str(error)) is not None


_AGAIN = Retrying(
    retry=retry_if_exception(_is_busy),
    stop=stop_after_attempt(5),
    wait=wait_random_exponential(multiplier=0.2, max=5),
    reraise=True,
)


@dataclass(frozen=True)
class Iceberg:
    """An Iceberg table.

    Attributes:
        catalog: name of its catalog.
        name: namespace.name
        key: the key of the job file that names it.
    """

    catalog: str
    name: str
    key: str

    def version(self, version: int | None = None, timestamp: datetime | None = None) -> int | None:
        """The id of a snapshot: see `jobs.table.Table`; -1 for a table without one."""
        with self._explained():
            if (table := self.load()) is None:
                return None
            found = self._at(table, version, timestamp)
            return -1 if found is None else found.snapshot_id

    def snapshot(self, version: int | None = None, timestamp: datetime | None = None) -> Snapshot | None:
        """A version of the table: see `jobs.table.Table`."""
        return _AGAIN(self._look, version, timestamp)

    def _look(self, version: int | None, timestamp: datetime | None) -> Snapshot | None:
        with self._explained():
            if (table := self.load()) is None:
                return None
            return self._snapshot(table, self._at(table, version, timestamp))

    def compacted(self, version: int, names: Collection[str]) -> set[str]:
        """The files that a snapshot of the kind `replace` added: see `jobs.table.Table`."""
        found: set[str] = set()
        if (table := self.load()) is None:
            return found
        at = table.snapshot_by_id(version)
        for _ in range(SNAPSHOTS):
            if at is None or found.issuperset(names):
                break
            if at.summary is not None and at.summary.operation == Operation.REPLACE:
                for manifest in at.manifests(table.io):
                    if manifest.added_snapshot_id == at.snapshot_id:
                        found |= {each.data_file.file_path for each in manifest.fetch_manifest_entry(table.io)}
            at = None if at.parent_snapshot_id is None else table.snapshot_by_id(at.parent_snapshot_id)
        return found & set(names)

    def open(self, file: DataFile) -> BinaryIO:
        """Open a data file for reading."""
        table = self.load()
        if table is None:
            raise FileNotFoundError(f"table {self.url} no longer exists")
        return cast(BinaryIO, table.io.new_input(file.url).open())

    def create(self, schema: pa.Schema, partition_by: Sequence[str], location: str) -> None:
        """Create the table without rows: see `jobs.table.Table`."""
        iceberg_commit.create(self._catalog, self.name, schema, partition_by, location)

    def commit(
        self,
        add: Sequence[Added],
        remove: Sequence[str],
        schema: pa.Schema,
        seen: Snapshot,
        properties: Mapping[str, str],
    ) -> int:
        """Add and remove files in one transaction: see `jobs.table.Table`."""
        return iceberg_commit.commit(self._catalog, self.name, add, remove, schema, seen, properties)

    def committed(self, commit: str) -> bool:
        """Whether the table has a commit: see `jobs.table.Table`."""
        return _AGAIN(iceberg_commit.committed, self._catalog, self.name, commit)

    def _catalog(self) -> Catalog:
        # The package reads the environment once, when it is imported.
        config = Config().get_catalog_config(self.catalog) or {}
        return load_catalog(self.catalog, **cast(dict[str, str], config))

    @property
    def url(self) -> str:
        """The table as in a job file."""
        return f"iceberg://{self.catalog}/{self.name}"

    def load(self) -> Table | None:
        """The handle of the newest version of the table; None if the table does not exist.

        Raises:
            SpecError: the catalog is not configured.
            SourceError: the catalog does not answer.
        """
        try:
            return self._catalog().load_table(self.name)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        except Exception as error:
            # Each catalog raises errors of its own library: of HTTP, a database, a cloud.
            variable = f"PYICEBERG_CATALOG__{self.catalog.upper()}__URI"
            if not Config().get_catalog_config(self.catalog):
                raise SpecError(
                    f"{self.key} {self.url!r}: catalog {self.catalog!r} is not configured; give it in "
                    f"~/.pyiceberg.yaml, or set {variable}"
                ) from error
            raise SourceError(
                f"{self.key} {self.url!r}: catalog {self.catalog!r} does not answer: {reason(error)}; check {variable} "
                f"or ~/.pyiceberg.yaml, then run again"
            ) from error

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except NightscribeError:
            raise
        except Exception as error:
            # Catalogs and stores raise errors of their own libraries.
            if "equality deletes" in str(error):
                raise self._equality_deletes() from error
            raise SourceError(f"{self.key} {self.url!r} cannot be read: {reason(error)}") from error

    def _at(self, table: Table, version: int | None, timestamp: datetime | None) -> Version | None:
        """A snapshot by its id, or the newest at a time; None for the newest of a table without one.

        Raises:
            SpecError: there is none, or it has expired.
        """
        if timestamp is None and version in (None, -1):
            return table.current_snapshot() if version is None else None
        if timestamp is not None:
            when = timestamp.replace(tzinfo=UTC) if timestamp.tzinfo is None else timestamp
            found = table.snapshot_as_of_timestamp(int(when.timestamp() * 1000))
            asked = f"source.timestamp {timestamp.isoformat()} is before every snapshot"
        else:
            found = table.snapshot_by_id(cast(int, version))
            asked = f"source.version {version} is not a snapshot"
        if found is None:
            known = [f"{each.snapshot_id} of {_time(each.timestamp_ms)}" for each in table.snapshots()[-5:]]
            raise SpecError(f"{asked} of {self.url!r}, or has expired; the newest are: {', '.join(known) or 'none'}")
        return found

    def _snapshot(self, table: Table, found: Version | None) -> Snapshot:
        schema = table.schema()
        if found is not None and found != table.current_snapshot() and found.schema_id is not None:
            schema = table.schemas()[found.schema_id]
        tasks = [] if found is None else list(table.scan(snapshot_id=found.snapshot_id).plan_files())
        gone = self._deleted(table, tasks)
        columns = tuple(iceberg_files.column(field, schema) for field in arrow_io.schema_to_pyarrow(schema))
        partitioned = [field for field in table.spec().fields if isinstance(field.transform, IdentityTransform)]
        location = table.location().rstrip("/")
        files = [iceberg_files.data_file(task.file, table, schema, location, gone) for task in tasks]
        return Snapshot(
            id=str(table.metadata.table_uuid),
            version=-1 if found is None else found.snapshot_id,
            schema=pa.schema([column.field for column in columns]),
            partition_columns=tuple(
                name for field in partitioned if (name := schema.find_column_name(field.source_id)) is not None
            ),
            files=sorted(files, key=lambda file: file.key),
            location=iceberg_files.path(location),
            columns=columns,
            ids=iceberg_files.ids(table),
            renamed=renamed(iceberg_files.renamed_fields(table, schema)),
        )

    def _equality_deletes(self) -> SpecError:
        return SpecError(
            f"{self.key} {self.url!r} has equality deletes, which cannot be read; compact it with the engine "
            f"that wrote them, such as Spark's rewrite_data_files"
        )

    def _deleted(self, table: Table, tasks: Sequence[FileScanTask]) -> Mapping[str, np.ndarray]:
        """Location of a data file -> positions of its deleted rows.

        Raises:
            SpecError: the deletes are not by position.
        """
        wanted: dict[str, Listed] = {}
        for task in tasks:
            if task.file.file_format != FileFormat.PARQUET:
                raise SpecError(
                    f"{self.key} {self.url!r} has data files of the format {task.file.file_format.value}, which cannot "
                    f"be read; rewrite them as Parquet"
                )
            for each in task.delete_files:
                if each.content == DataFileContent.EQUALITY_DELETES:
                    raise self._equality_deletes()
                wanted[each.file_path] = each
        with ThreadPoolExecutor(THREADS) as threads:
            files = threads.map(lambda each: arrow_io._read_deletes(table.io, each), wanted.values())
            read = dict(zip(wanted, files, strict=True))
        found = {}
        for task in tasks:
            path = task.file.file_path
            positions = [read[each.file_path].get(path) for each in task.delete_files]
            arrays = [each.to_numpy() for each in positions if each is not None]
            if arrays:
                found[path] = reduce(np.union1d, arrays, NONE_DELETED).astype(np.int64)
        return found


def open_table(url: str, key: str) -> Iceberg:
    """The table of that name, which need not exist."""
    return Iceberg(*iceberg_name(url), key)


def _time(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")
