"""Parquet files with rows of people: read in batches, and written again without some rows."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from jobs.forget.texts import Texts
from jobs.source import files, local
from jobs.source.where import take
from jobs.store import Store
from transforms.errors import RunError

BATCH_ROWS = 16_384


@dataclass(frozen=True)
class Table:
    """A Parquet file.

    Attributes:
        place: what it belongs to, for the output, such as `lake/review: drawn rows`.
        name: the file, for errors.
        identity: the same for one file that is reached in two ways.
        texts: where its texts are.
        open: opens it.
        temporary: a path for a new version of it.
        replace: puts a new version in its place.
        folders: partition columns that only the names of its folders have.
    """

    place: str
    name: str
    identity: tuple[str, str]
    texts: Texts
    open: Callable[[], BinaryIO]
    temporary: Callable[[], Path]
    replace: Callable[[Path], None]
    folders: Mapping[str, str | None] = field(default_factory=dict)

    def schema(self) -> pa.Schema:
        """The columns, those of the folders last.

        Raises:
            RunError: it is damaged.
        """
        with self.open() as stream:
            try:
                schema = pq.read_schema(stream)
            except pa.ArrowException as error:
                raise RunError(
                    f"{self.name} is no readable Parquet file, so it cannot be searched ({error}); restore it, or "
                    "delete it"
                ) from error
        more = [pa.field(name, pa.string()) for name in self.folders if name not in schema.names]
        return pa.schema([*schema, *more], schema.metadata)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows in their order.

        Args:
            columns: those to read, of its own and of its folders; by default all.
        """
        with self.open() as stream, pq.ParquetFile(stream) as file:
            own = file.schema_arrow.names
            read = own if columns is None else [name for name in columns if name in own]
            more = [name for name in self.folders if name not in own and (columns is None or name in columns)]
            for batch in file.iter_batches(BATCH_ROWS, columns=read):
                for name in more:
                    batch = batch.append_column(name, pa.repeat(pa.scalar(self.folders[name], pa.string()), len(batch)))
                yield batch

    def rows(self, numbers: np.ndarray) -> pa.Table:
        """Some rows by ascending number, all columns."""
        schema = self.schema().remove_metadata()
        found = [take(batch, mine) for batch, mine in _of_batches(self.batches(), numbers)]
        return pa.Table.from_batches([batch for batch in found if len(batch)], schema)

    def remove(self, numbers: np.ndarray) -> None:
        """Write the file again without some rows: the same schema, metadata, row groups and compression.

        Raises:
            RunError: the new file cannot be read, or the old one changed meanwhile; it is as it was then.
        """
        temporary = self.temporary()
        try:
            with self.open() as stream, pq.ParquetFile(stream) as before:
                _write(before, temporary, numbers)
                left = before.metadata.num_rows - len(numbers)
            _check(temporary, left, self.name)
            self.replace(temporary)
        finally:
            temporary.unlink(missing_ok=True)


def in_store(
    store: Store, name: str, place: str, texts: Texts, folders: Mapping[str, str | None] | None = None
) -> Table:
    """A file of a review folder or of a sink."""
    return Table(
        place,
        f"{store.url}/{name}",
        _identity(store.fs, store.path(name)),
        texts,
        lambda: store.open(name),
        store.temporary,
        lambda temporary: store.publish(temporary, name),
        folders or {},
    )


def of_source(file: files.File, place: str, texts: Texts) -> Table:
    """A file of labelled rows. Its new version is written beside it under a name that readers skip."""
    is_local = isinstance(file.fs, LocalFileSystem)
    target = os.path.realpath(file.path) if is_local else file.path
    beside = Path(target).with_name(f".{Path(target).name}.{uuid.uuid4().hex}")

    def replace(temporary: Path) -> None:
        now = local.version(file.path) if is_local else files.version(file.fs.info(file.path), file.url)
        if now != file.version:
            raise RunError(f"{file.url} changed while it was searched; run the command again")
        if is_local:
            shutil.copymode(target, temporary)
            os.replace(temporary, target)
        else:
            file.fs.put_file(str(temporary), file.path)

    return Table(
        place,
        file.url,
        _identity(file.fs, target),
        texts,
        lambda: cast(BinaryIO, file.fs.open(file.path, "rb")),
        lambda: beside if is_local else Store(file.url).temporary(),
        replace,
        files.partition(file.key),
    )


def _identity(fs: object, path: str) -> tuple[str, str]:
    return type(fs).__name__, os.path.realpath(path) if isinstance(fs, LocalFileSystem) else path


def _of_batches(batches: Iterator[pa.RecordBatch], numbers: np.ndarray) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
    """Each batch with the numbers, within it, of the rows of it that are among some rows."""
    start = 0
    for batch in batches:
        yield batch, numbers[(numbers >= start) & (numbers < start + len(batch))] - start
        start += len(batch)


def _write(before: pq.ParquetFile, path: Path, numbers: np.ndarray) -> None:
    metadata = before.metadata
    columns = [metadata.row_group(0).column(i) for i in range(metadata.num_columns)] if metadata.num_row_groups else []
    codecs = {column.path_in_schema: _codec(column.compression) for column in columns}
    indexed = any(column.has_offset_index for column in columns)
    start = 0
    with pq.ParquetWriter(path, before.schema_arrow, compression=codecs or "zstd", write_page_index=indexed) as writer:
        for group in range(metadata.num_row_groups):
            table = before.read_row_group(group)
            mine = numbers[(numbers >= start) & (numbers < start + len(table))] - start
            start += len(table)
            kept = [
                take(batch, np.setdiff1d(np.arange(len(batch)), removed))
                for batch, removed in _of_batches(iter(table.to_batches()), mine)
            ]
            if len(left := pa.Table.from_batches(kept, table.schema)):
                writer.write_table(left, row_group_size=len(left))


def _codec(name: str) -> str:
    return {"UNCOMPRESSED": "none", "LZ4_RAW": "lz4"}.get(name, name.lower())


def _check(path: Path, rows: int, name: str) -> None:
    """Read a written file whole: not every column that Parquet takes can be read again."""
    try:
        with pq.ParquetFile(path) as file:
            read = sum(len(batch) for batch in file.iter_batches(BATCH_ROWS))
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{name} cannot be written again without the rows ({error}); it is as it was") from error
    if read != rows:
        raise RunError(f"{name} would have {read:,} rows without the person's, and not {rows:,}; it is as it was")
