"""`source.where`: a condition on one row, in DuckDB's SQL.

DuckDB gets the columns that the condition names and no others, so that the types and names of other columns do not
matter. A row for which the condition cannot be computed is a rejected row.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from jobs.source import condition as conditions
from jobs.source.condition import Refused, UnknownColumn
from transforms.errors import SourceError, SpecError

# A name that no column is likely to have: DuckDB reads `name.field` as a column of the table of that name.
TABLE = "nightscribe_source_rows"

# For this many failed rows per batch the exact message is found; further rows get the last of these messages.
EXPLAINED_ROWS = 100


class MissingColumn(SpecError):
    """The condition names a column that the rows do not have."""


class Where:
    """A condition on the columns of a source; close it after use.

    Args:
        condition: such as `lang = 'en' AND length(text) < 1000`; null counts as false.
        schema: columns that the condition can name.
        key: what gives the condition, for errors.
        place: what has the columns, for errors.

    Raises:
        MissingColumn: it names a column that does not exist.
        SpecError: it is not a condition.
    """

    def __init__(self, condition: str, schema: pa.Schema, key: str = "source.where", place: str = "the source"):
        # Imported here, because most jobs have no condition and importing it takes time.
        import duckdb

        self.condition, self.schema, self.key = condition, schema, key
        self.error = duckdb.Error
        # One thread keeps the order of rows, and the cores for the models. No files, no network, no extensions.
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": 1,
            "enable_external_access": False,
            "python_enable_replacements": False,
            # Both spellings of a lambda: `x -> x > 1` and `lambda x: x > 1`.
            "lambda_syntax": "ENABLE_SINGLE_ARROW",
        }
        self.connection = duckdb.connect(":memory:", config=config)
        try:
            # Not the time zone of the machine, so that the hour of a timestamp is the same everywhere.
            self.connection.execute("SET TimeZone = 'UTC'; SET lock_configuration = true")
            self.tree = conditions.parse(condition, self.connection)
            self.names = conditions.named_columns(self.tree, schema.names, condition, place)
        except Refused as error:
            reason = str(error) + self._words_of_sql() * ("syntax error" in str(error))
            self.connection.close()
            raise self._refused(reason, MissingColumn if isinstance(error, UnknownColumn) else SpecError) from error
        # Column names of DuckDB are the same in either case.
        self.row = next(n for n in ("row", "row_", "row__", "row___") if n not in {name.lower() for name in self.names})

    def __enter__(self) -> Where:
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def check(self) -> None:
        """Refuse a condition that is not on one row, or cannot be computed for the types of its columns.

        Raises:
            SpecError: an aggregate, a function of time or chance, a type that does not fit, no boolean.
        """
        try:
            conditions.check_functions(self.tree, self.connection)
        except Refused as error:
            raise self._refused(str(error)) from error
        for name in self.names:
            self._check_type(self.schema.field(name))
        # A row of nulls: a condition that fails on it fails on every row, such as `day > 'x'`.
        columns = [_readable(pa.nulls(1, self.schema.field(name).type)) for name in self.names]
        row = pa.table([*columns, pa.array([0])], [*self.names, self.row])
        try:
            # As a WHERE, in which DuckDB refuses aggregates; then as a value, to get its type.
            self._select(f"SELECT {self.row} FROM {TABLE} WHERE (\n{self.condition}\n)", row)
            value = self._select(f"SELECT (\n{self.condition}\n) FROM {TABLE}", row)[0]
        except self.error as error:
            raise self._refused(_message(error)) from error
        if not pa.types.is_boolean(value.type):
            raise self._refused(f"it gives a value of type {value.type}, but a condition must be true or false")

    def filter(self, batch: pa.RecordBatch) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """The rows that meet the condition, their types and order untouched.

        Args:
            batch: rows of the schema.

        Returns:
            The rows that meet it, and (row of the batch, message) of those for which it cannot be computed, such as a
            text that is no number in `CAST(text AS INTEGER) > 3`.

        Raises:
            SourceError: DuckDB cannot compute it for another reason, such as too little memory.
        """
        table = self._table(batch)
        try:
            (met,) = self._select(f"SELECT {self.row} FROM {TABLE} WHERE (\n{self.condition}\n)", table)
        except self.error:
            return self._filter_each(batch, table)
        return take(batch, np.sort(met.to_numpy())), []

    def _filter_each(self, batch: pa.RecordBatch, table: pa.Table) -> tuple[pa.RecordBatch, list[tuple[int, str]]]:
        """The slow path, for a batch with a row for which the condition cannot be computed."""
        try:
            # TRY gives null only if computing fails, because coalesce has turned other nulls into false.
            query = f"SELECT {self.row}, TRY(coalesce((\n{self.condition}\n), false)) FROM {TABLE}"
            rows, met = self._select(query, table)
        except self.error as error:
            raise SourceError(f"{self.key} {self.condition!r} cannot be computed: {_message(error)}") from error
        met = met.take(pa.array(np.argsort(rows.to_numpy())))
        failed = np.flatnonzero(met.is_null().to_numpy(zero_copy_only=False))
        kept = np.flatnonzero(met.fill_null(False).to_numpy(zero_copy_only=False))
        return take(batch, kept), list(self._explained(failed.tolist(), table))

    def _explained(self, failed: list[int], table: pa.Table) -> Iterator[tuple[int, str]]:
        message = ""
        for i, row in enumerate(failed):
            if i < EXPLAINED_ROWS:
                try:
                    self._select(f"SELECT (\n{self.condition}\n) FROM {TABLE}", table.slice(row, 1))
                except self.error as error:
                    message = f"{self.key} {self.condition!r} cannot be computed for this row: {_message(error)}"
            yield row, message

    def _select(self, query: str, table: pa.Table) -> list[pa.Array]:
        """The columns of a query over a table, by position: a condition has no name."""
        with self._registered(table):
            result = self.connection.sql(query).to_arrow_table()
        return [column.combine_chunks() for column in result.columns]

    @contextmanager
    def _registered(self, table: pa.Table) -> Iterator[None]:
        self.connection.register(TABLE, table)
        try:
            yield
        finally:
            self.connection.unregister(TABLE)

    def _table(self, batch: pa.RecordBatch) -> pa.Table:
        """The named columns in types that DuckDB reads, and the number of each row."""
        columns = [_readable(batch.column(batch.schema.get_field_index(name))) for name in self.names]
        return pa.table([*columns, pa.array(np.arange(len(batch)))], [*self.names, self.row])

    def _check_type(self, field: pa.Field) -> None:
        """Refuse a column that DuckDB cannot read."""
        try:
            table = pa.table([_readable(pa.nulls(0, field.type))], ["value"])
            self._select(f"SELECT value FROM {TABLE}", table)
        except (self.error, pa.ArrowNotImplementedError) as error:
            raise self._refused(
                f"column {field.name!r} has type {field.type}, which a condition cannot read; leave it out of the "
                f"condition, or convert it in the source"
            ) from error

    def _words_of_sql(self) -> str:
        """An addition to a message: how to write columns whose names are words of SQL; empty if there are none."""
        words = {word.lower() for word in re.findall(r'(?<![\w"])\w+(?![\w"])', self.condition)}
        query = "SELECT keyword_name FROM duckdb_keywords() WHERE keyword_category <> 'unreserved'"
        words &= {name for (name,) in self.connection.execute(query).fetchall()}
        named = [f'"{name}"' for name in self.schema.names if name.lower() in words]
        return f"; write a column whose name is a word of SQL in double quotes: {', '.join(named)}" if named else ""

    def _refused(self, reason: str, kind: type[SpecError] = SpecError) -> SpecError:
        return kind(f"{self.key} {self.condition!r}: {reason}; columns: {', '.join(self.schema.names)}")


def take(batch: pa.RecordBatch, rows: np.ndarray) -> pa.RecordBatch:
    """Rows of a batch by ascending number; also of columns that Arrow cannot take from (string_view, run-end)."""
    if len(rows) == len(batch):
        return batch
    return pa.RecordBatch.from_arrays([_taken(column, rows) for column in batch.columns], schema=batch.schema)


def _taken(column: pa.Array, rows: np.ndarray) -> pa.Array:
    try:
        return column.take(pa.array(rows, pa.int64()))
    except pa.ArrowNotImplementedError:
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1) if len(rows) else []
        return pa.concat_arrays([column.slice(0, 0), *(column.slice(int(run[0]), len(run)) for run in runs)])


def _readable(column: pa.Array) -> pa.Array:
    """The column in a type that DuckDB reads, with the same values."""
    type_ = _readable_type(column.type)
    return column if type_.equals(column.type) else column.cast(type_)


def _readable_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_float16(type_):
        return pa.float32()
    if pa.types.is_decimal256(type_) and type_.precision <= 38:
        return pa.decimal128(type_.precision, type_.scale)
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_readable_type(field.type)) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(type_.value_field.with_type(_readable_type(type_.value_type)))
    return type_


def _message(error: Exception) -> str:
    """The first line of DuckDB's message, without the class in front of it and without advice on its settings."""
    return re.sub(r"^[\w ]*Error: |\.? Use TRY\(.*$", "", str(error).splitlines()[0])
