"""What happens to rows between the file and the first task: where, prepare, limit, and cutting into even batches."""

from __future__ import annotations

import hashlib
import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator

import pyarrow as pa

from transforms.errors import SourceError, SpecError

Prepare = Callable[[pa.RecordBatch], pa.RecordBatch]


class Where:
    """A SQL condition (DuckDB's dialect) over record batches; null counts as no.

    Args:
        condition: such as `lang = 'en' AND length(text) < 1000`.
    """

    def __init__(self, condition: str):
        # Imported where it is needed: most jobs have no condition, and every process would wait for it.
        import duckdb

        self.condition = condition
        self.complaint = duckdb.Error
        # One thread keeps the order of rows, and the cores for the models.
        self.connection = duckdb.connect(":memory:", config={"threads": 1})

    def __enter__(self) -> Where:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def filter(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """The rows that meet the condition, their types and order untouched.

        Raises:
            SpecError: the condition is no SQL, or names a column that is not there.
        """
        self.connection.register("batch", pa.Table.from_batches([batch]))
        try:
            query = f"SELECT coalesce(({self.condition}), false)::BOOLEAN AS keep FROM batch"
            result = self.connection.sql(query).to_arrow_table()
        except self.complaint as error:
            columns = ", ".join(batch.schema.names)
            complaint = str(error).splitlines()[0]
            raise SpecError(f"source.where {self.condition!r}: {complaint}; columns: {columns}") from error
        finally:
            self.connection.unregister("batch")
        return batch.filter(result.column("keep").combine_chunks())


def load_prepare(reference: str) -> Prepare:
    """Import a `module:function`.

    Raises:
        SpecError: it cannot be imported, or is nothing to call.
    """
    module, colon, name = reference.partition(":")
    if not colon:
        raise SpecError(f"source.prepare {reference!r} is not module:function, such as my_pkg.clean:strip_html")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise SpecError(f"source.prepare {reference!r} cannot be imported: {error}") from error
    if not callable(function):
        raise SpecError(f"source.prepare {reference!r} is a {type(function).__name__}, not a function")
    return function


def prepare_version(reference: str) -> str:
    """A hash of the module that holds a prepare function: editing it makes its shards new."""
    file = inspect.getsourcefile(inspect.getmodule(load_prepare(reference)) or load_prepare(reference))
    if file is None:
        return reference
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def prepared(batch: pa.RecordBatch, prepare: Prepare, reference: str) -> pa.RecordBatch:
    """Apply a prepare function and hold it to its contract.

    Raises:
        SourceError: it gave something else than a RecordBatch.
    """
    result = prepare(batch)
    if not isinstance(result, pa.RecordBatch):
        raise SourceError(
            f"source.prepare {reference!r} gave a {type(result).__name__}; it must give a pyarrow.RecordBatch"
        )
    return result


def conform(batch: pa.RecordBatch, schema: pa.Schema, place: str) -> pa.RecordBatch:
    """Bring a batch to a schema: columns in order, missing ones null, types cast where nothing is lost.

    Raises:
        SourceError: a value does not fit its type.
    """
    if batch.schema.equals(schema):
        return batch
    arrays = []
    for field in schema:
        i = batch.schema.get_field_index(field.name)
        if i < 0:
            arrays.append(pa.nulls(len(batch), field.type))
            continue
        try:
            arrays.append(batch.column(i).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SourceError(
                f"{place}: column {field.name!r} is {batch.column(i).type}, planned as {field.type}: {error}"
            ) from error
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def even(batches: Iterable[pa.RecordBatch], rows: int, max_bytes: int) -> Iterator[pa.RecordBatch]:
    """Cut and join batches to `rows` rows each, fewer where those would pass `max_bytes`; the last may be smaller.

    Where a batch is cut depends on the rows alone, so a rerun cuts in the same places.
    """
    waiting: list[pa.RecordBatch] = []
    count = size = 0
    for batch in batches:
        while len(batch):
            per_row = max(1, batch.nbytes // len(batch))
            room = max(1, min(rows - count, (max_bytes - size) // per_row))
            piece, batch = batch.slice(0, room), batch.slice(room)
            waiting.append(piece)
            count, size = count + len(piece), size + per_row * len(piece)
            if count >= rows or size + per_row > max_bytes:
                yield _join(waiting)
                waiting, count, size = [], 0, 0
    if waiting:
        yield _join(waiting)


def _join(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)
