"""Commits to a Delta table: one entry of its log adds and removes files, on top of the version that was seen."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from deltalake.transaction import AddAction, RemoveAction

from jobs.store import Store
from jobs.table import Added, Conflict, Snapshot
from jobs.table.delta_stats import statistics
from transforms.errors import SinkError

_T = TypeVar("_T")


def create(url: str, options: Mapping[str, str] | None, schema: pa.Schema, partition_by: Sequence[str]) -> None:
    """Create the table without rows; no effect if it exists.

    Args:
        url: its folder.
        options: of the store, for deltalake.
        schema: its columns.
        partition_by: its partition columns.
    """
    _explained(
        url,
        lambda: DeltaTable.create(
            url, schema=schema, partition_by=list(partition_by), mode="ignore", storage_options=_dict(options)
        ),
    )


def commit(
    url: str,
    options: Mapping[str, str] | None,
    add: Sequence[Added],
    remove: Sequence[str],
    schema: pa.Schema,
    seen: Snapshot,
    properties: Mapping[str, str],
) -> int:
    """Add and remove files on top of a version; as `Table.commit`.

    The property `nightscribe.commit` is also the id of an application's transaction: unlike the properties of a commit,
    the log keeps those when it is shortened.
    """

    def make() -> int:
        table = DeltaTable(url, storage_options=_dict(options))
        if table.version() != seen.version or str(table.metadata().id) != seen.id:
            raise Conflict(f"{url} has version {table.version()}, and this commit was made for {seen.version}")
        there = {field.name for field in table.schema().fields}
        if new := [field for field in Schema.from_arrow(schema).fields if field.name not in there]:
            # A commit of its own, and harmless if the next one does not follow: older rows have null there.
            table.alter.add_columns(new)
            table = DeltaTable(url, version=seen.version + 1, storage_options=_dict(options))
        store, partitions = Store(url), table.metadata().partition_columns
        actions = [_removal(seen, name) for name in remove] + [_addition(store, each, partitions) for each in add]
        commit_id = properties["nightscribe.commit"]
        table.create_write_transaction(
            actions,
            "append",
            table.schema(),
            partitions,
            commit_properties=CommitProperties(
                custom_metadata=dict(properties),
                # Otherwise a commit is made on top of versions that nobody has looked at.
                max_commit_retries=0,
                app_transactions=[Transaction(_app(commit_id), 1)],
            ),
        )
        return seen.version + 1 + bool(new)

    return _explained(url, make)


def committed(url: str, options: Mapping[str, str] | None, commit: str) -> bool:
    """Whether the log has a commit with this id."""

    def look() -> bool:
        try:
            table = DeltaTable(url, storage_options=_dict(options))
        except TableNotFoundError:
            return False
        return table.transaction_version(_app(commit)) is not None

    return _explained(url, look)


def _addition(store: Store, added: Added, partitions: Sequence[str]) -> AddAction:
    with store.open(added.name) as stream:
        stats = statistics(pq.read_metadata(stream))
    values = {name: _text(added.partition.get(name)) for name in partitions}
    return AddAction(added.name, added.size, values, int(time.time() * 1000), True, stats)


def _removal(seen: Snapshot, name: str) -> RemoveAction:
    file = next(file for file in seen.files if file.name == name)
    values = {column: _text(file.partition.get(column)) for column in seen.partition_columns}
    # The log has it as a part of a URL, and the library encodes it again.
    return RemoveAction(unquote(name), True, int(time.time() * 1000), file.size, values)


def _text(value: Any) -> str | None:
    """A partition value as the log has it.

    https://github.com/delta-io/delta/blob/master/PROTOCOL.md#partition-value-serialization
    """
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value if isinstance(value, str) else str(value)


def _app(commit: str) -> str:
    return f"nightscribe-{commit}"


def _dict(options: Mapping[str, str] | None) -> dict[str, str] | None:
    return None if options is None else dict(options)


def _explained(url: str, call: Callable[[], _T]) -> _T:
    """The result of a call, with errors of deltalake as ours; only the first line of theirs, which have a traceback.

    Raises:
        Conflict: somebody else committed first.
        SinkError: the table cannot be written.
    """
    try:
        return call()
    except CommitFailedError as error:
        raise Conflict(f"another writer has committed to {url}") from error
    except (DeltaError, OSError, ValueError) as error:
        said = str(error).partition("\n")[0][:300] or type(error).__name__
        raise SinkError(f"sink.table {url!r} cannot be written: {said}") from error
