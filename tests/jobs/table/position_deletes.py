"""Deletes of Iceberg tables that `pyiceberg` reads and cannot write: by position, as vectors, and by value."""

from __future__ import annotations

import json
import struct
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.manifest import (
    DEFAULT_READ_VERSION,
    DataFile,
    DataFileContent,
    FileFormat,
    ManifestContent,
    ManifestWriterV2,
)
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyroaring import BitMap


class _DeletesWriter(ManifestWriterV2):
    """A writer of a manifest of delete files."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return super()._meta | {"content": "deletes"}


def by_position(table: Table, positions: Mapping[str, Sequence[int]], partition: Sequence[object] = ()) -> None:
    """Commit one Parquet delete file: location of a data file -> positions of the rows that are deleted."""
    pairs = sorted((path, position) for path, several in positions.items() for position in several)
    content = pa.table({"file_path": [path for path, _ in pairs], "pos": [position for _, position in pairs]})
    path = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    pq.write_table(content, path.removeprefix("file://"))
    _commit(table, path, DataFileContent.POSITION_DELETES, FileFormat.PARQUET, len(pairs), partition)


def by_vector(table: Table, data_file: str, positions: Sequence[int]) -> None:
    """Commit a Puffin file with the deletion vector of a data file, as in version 3 of the format."""
    bitmap = struct.pack("<qI", 1, 0) + BitMap(positions).serialize()
    payload = struct.pack(">I", 0xD1D33964) + bitmap
    blob = struct.pack(">i", len(payload)) + payload + struct.pack(">I", zlib.crc32(payload))
    properties = {"referenced-data-file": data_file, "cardinality": str(len(positions))}
    about = {"type": "deletion-vector-v1", "fields": [], "snapshot-id": -1, "sequence-number": -1}
    about |= {"offset": 4, "length": len(blob), "properties": properties}
    footer = json.dumps({"blobs": [about], "properties": {}}).encode()
    path = f"{table.location()}/data/{uuid.uuid4()}.puffin"
    content = b"PFA1" + blob + b"PFA1" + footer + struct.pack("<i", len(footer)) + bytes(4) + b"PFA1"
    Path(path.removeprefix("file://")).write_bytes(content)
    _commit(table, path, DataFileContent.POSITION_DELETES, FileFormat.PUFFIN, len(positions))


def by_value(table: Table, column: int, values: pa.Table) -> None:
    """Commit a delete file with values of a column, by its id: rows that have one of them are deleted."""
    path = f"{table.location()}/data/{uuid.uuid4()}-deletes.parquet"
    pq.write_table(values, path.removeprefix("file://"))
    _commit(table, path, DataFileContent.EQUALITY_DELETES, FileFormat.PARQUET, len(values), equality_ids=[column])


def _commit(
    table: Table,
    path: str,
    content: DataFileContent,
    format_: FileFormat,
    rows: int,
    partition: Sequence[object] = (),
    **more: object,
) -> None:
    file = DataFile.from_args(
        _table_format_version=DEFAULT_READ_VERSION,
        content=content,
        file_path=path,
        file_format=format_,
        partition=Record(*partition),
        record_count=rows,
        file_size_in_bytes=Path(path.removeprefix("file://")).stat().st_size,
        **more,
    )
    file.spec_id = table.spec().spec_id
    with table.transaction() as transaction, transaction.update_snapshot().fast_append() as append:
        number = append.snapshot_id
        append.new_manifest_writer = lambda spec: _DeletesWriter(  # type: ignore[method-assign]
            spec, table.schema(), append.new_manifest_output(), number, "deflate"
        )
        append.append_data_file(file)
