"""Commits to an Iceberg table: one snapshot adds and removes files, on top of the snapshot that was seen."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import pyarrow as pa
from pyiceberg.catalog import Catalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    ValidationException,
)
from pyiceberg.io.pyarrow import parquet_file_to_data_file
from pyiceberg.table import Table as IcebergTable
from pyiceberg.table import TableProperties

from jobs.table import Added, Conflict, Snapshot
from transforms.errors import SinkError

# Kept as a property of the table too: snapshots are expired, and their summaries with them.
COMMIT = "nightscribe.commit"

_T = TypeVar("_T")


def create(
    open_catalog: Callable[[], Catalog], name: str, schema: pa.Schema, partition_by: Sequence[str], location: str
) -> None:
    """Create the table without rows, and its namespace; no effect if it exists."""

    def make() -> None:
        catalog = open_catalog()
        if catalog.table_exists(name):
            return
        catalog.create_namespace_if_not_exists(name.rpartition(".")[0])
        staged = catalog.create_table_transaction(name, schema=schema, location=location)
        with staged as transaction:
            if partition_by:
                with transaction.update_spec() as spec:
                    for column in partition_by:
                        spec.add_identity(column)
            # Part files have no field ids; columns are found by their names.
            mapping = transaction.table_metadata.schema().name_mapping.model_dump_json()
            transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})

    _explained(name, make)


def commit(
    open_catalog: Callable[[], Catalog],
    name: str,
    add: Sequence[Added],
    remove: Sequence[str],
    schema: pa.Schema,
    seen: Snapshot,
    properties: Mapping[str, str],
) -> int:
    """Add and remove files on top of a snapshot; as `Table.commit`."""

    def make() -> int:
        table = open_catalog().load_table(name)
        current = table.current_snapshot()
        if str(table.metadata.table_uuid) != seen.id or (current.snapshot_id if current else -1) != seen.version:
            raise Conflict(f"{name} has another snapshot than the one that this commit was made for")
        _without_retries(table)
        gone = {task.file.file_path: task.file for task in table.scan().plan_files()} if remove else {}
        transaction = table.transaction()
        with transaction.update_schema() as update:
            update.union_by_name(Catalog._convert_schema_if_needed(schema))
        if transaction.table_metadata.name_mapping() is None:
            mapping = transaction.table_metadata.schema().name_mapping.model_dump_json()
            transaction.set_properties({TableProperties.DEFAULT_NAME_MAPPING: mapping})
        transaction.set_properties({COMMIT: properties[COMMIT]})
        if add or remove:
            with transaction.update_snapshot(snapshot_properties=dict(properties)).overwrite() as snapshot:
                for each in add:
                    path = f"{table.location().rstrip('/')}/{each.name}"
                    snapshot.append_data_file(parquet_file_to_data_file(table.io, transaction.table_metadata, path))
                for path in remove:
                    snapshot.delete_data_file(gone[path])
        now = transaction.commit_transaction().current_snapshot()
        return now.snapshot_id if now is not None else -1

    return _explained(name, make)


def committed(open_catalog: Callable[[], Catalog], name: str, commit: str) -> bool:
    """Whether the last commit of a run has this id."""

    def look() -> bool:
        try:
            return open_catalog().load_table(name).properties.get(COMMIT) == commit
        except NoSuchTableError:
            return False

    return _explained(name, look)


def _without_retries(table: IcebergTable) -> None:
    """Make a commit fail if another one came first: pyiceberg would repeat it on top of that one, unseen."""
    properties = {**table.metadata.properties, TableProperties.COMMIT_NUM_RETRIES: "0"}
    table.metadata = table.metadata.model_copy(update={"properties": properties})


def _explained(name: str, call: Callable[[], _T]) -> _T:
    """The result of a call, with errors of pyiceberg and its catalogs as ours.

    Raises:
        Conflict: somebody else committed first.
        SinkError: the table cannot be written, or it is unknown whether it was.
    """
    try:
        return call()
    except (Conflict, SinkError):
        raise
    except (CommitFailedException, ValidationException) as error:
        raise Conflict(f"another writer has committed to {name}") from error
    except CommitStateUnknownException as error:
        raise SinkError(
            f"sink.table {name!r}: the catalog did not say whether it took the commit; run again, which looks first"
        ) from error
    except Exception as error:
        # Each catalog (SQL, REST, Glue, Hive) raises errors of its own client.
        said = " ".join(str(error).split())[:300] or type(error).__name__
        raise SinkError(f"sink.table {name!r} cannot be written: {said}") from error
