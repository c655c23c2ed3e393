"""The columns of a job that writes into a table, compared with the table while planning."""

from __future__ import annotations

import os

import pyarrow as pa

from jobs.sink.table import TablePublisher
from jobs.spec.table import delta_folder
from jobs.table import storable
from transforms.errors import SpecError


def check(publisher: TablePublisher, schema: pa.Schema) -> pa.Schema:
    """The columns of the rows, with types that the table has; `spec.partition_by` must be known.

    Raises:
        SpecError: a column has no such type, or another one in the table; a key or partition column does not exist or
            cannot be one; the table is partitioned otherwise or lies elsewhere.
    """
    spec, seen = publisher.spec, publisher.seen
    found = storable.storable(schema, delta_folder(publisher.url) is not None)
    for key in ("key", "partition_by"):
        if missing := [name for name in getattr(spec, key) or () if name not in found.names]:
            raise SpecError(f"sink.{key}: {missing[0]!r} is no column of the rows; columns: {', '.join(found.names)}")
    for name in spec.partition_by or ():
        if pa.types.is_nested(type_ := found.field(name).type) or pa.types.is_floating(type_):
            raise SpecError(f"sink.partition_by: {name!r} is {type_}, by which a table cannot be partitioned")
    if len(spec.partition_by or ()) == len(found):
        raise SpecError("sink.partition_by names all columns of the rows; leave some for the files")
    if seen is None:
        return found
    storable.refuse_other_types(found, seen.schema, publisher.url)
    if spec.partition_by and tuple(spec.partition_by) != seen.partition_columns:
        there = ", ".join(seen.partition_columns) or "no column"
        raise SpecError(
            f"sink.partition_by is {', '.join(spec.partition_by)}, and {publisher.url} is partitioned by {there}; "
            f"remove sink.partition_by, or write to another table"
        )
    if missing := [name for name in seen.partition_columns if name not in found.names]:
        raise SpecError(
            f"{publisher.url} is partitioned by {missing[0]!r}, which is no column of the rows; columns: "
            f"{', '.join(found.names)}"
        )
    if _place(seen.location) != _place(publisher.store.url):
        raise SpecError(f"sink.path is {publisher.store.url!r}, and {publisher.url} is at {seen.location!r}; give that")
    return found


def _place(url: str) -> str:
    """A location in one form: without `file:`, and absolute if it is local."""
    plain = url.removeprefix("file://") if url.startswith("file://") else url.removeprefix("file:")
    return plain.rstrip("/") if "://" in plain else os.path.realpath(os.path.expanduser(plain))
