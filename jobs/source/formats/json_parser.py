"""Lines of JSON -> record batches.

Arrow parses whole blocks. A block with a line or a cell that Arrow cannot parse is read again line by line, so that one
bad cell rejects one row; the rejected row names the key and keeps the other columns.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from jobs.source.formats.json_broken import members
from jobs.source.formats.json_marks import unmarked
from jobs.source.formats.json_values import (
    Misfit,
    cast,
    check_keys,
    fit,
    kind,
    native,
    parse,
    with_article,
)
from jobs.source.shard import BadRow

# From here on not every integer has an equal double.
EXACT_BELOW = 2.0**53


class Parser:
    """Parses lines to record batches of a schema.

    Args:
        schema: columns and their types.
        strict: whether keys that are not in the schema are errors.
        named: columns whose type the job file names; their values are converted where that is exact.
    """

    def __init__(self, schema: pa.Schema, strict: bool, named: Collection[str] = ()):
        self.schema = schema
        self.names = frozenset(schema.names)
        self.strict = strict
        self.named = named
        self.native = pa.schema([native(unmarked(each)) for each in schema])
        self.casts = not self.native.equals(schema)

    def batches(self, block: bytes) -> list[pa.RecordBatch] | None:
        """Parse a block as a whole; None if it contains an error."""
        if not block.strip():
            return []
        try:
            whole = pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
            options = pa.json.ParseOptions(
                explicit_schema=self.native, unexpected_field_behavior="error" if self.strict else "ignore"
            )
            table = pa.json.read_json(pa.BufferReader(block), whole, options)
            # JSON can escape half of a surrogate pair, which Arrow would copy as invalid UTF-8.
            table.validate(full=True)
            if len(table) != _lines(block) or _has_rounded(table):
                return None
            if not self.casts:
                return list(table.to_batches())
            return [_cast(batch, self.schema) for batch in table.to_batches()]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
            return None

    def rows(self, block: bytes) -> Iterator[pa.RecordBatch | BadRow]:
        """Parse a block line by line (slow): good lines as batches, bad lines as BadRows; `row` counts in the block."""
        good: list[list[Any]] = []
        for number, line in enumerate(block.split(b"\n"), 1):
            if not line.strip():
                continue
            row = self._row(line)
            if not isinstance(row, BadRow):
                good.append(row)
                continue
            if good:
                yield self._batch(good)
                good = []
            yield replace(row, row=number)
        if good:
            yield self._batch(good)

    def _row(self, line: bytes) -> list[Any] | BadRow:
        """One value per column, or a BadRow."""
        shown = line.decode("utf-8", "backslashreplace")
        try:
            value: Any = parse(line.decode())
        except UnicodeDecodeError as error:
            # The columns with valid bytes are kept.
            return self._kept(
                BadRow("InvalidUTF8", f"byte {error.start} of the line is not UTF-8: {error.reason}", shown), line
            )
        except RecursionError:
            return BadRow("InvalidJSON", "nested too deep", shown)
        except json.JSONDecodeError as error:
            return self._broken(error, shown)
        if not isinstance(value, dict):
            return BadRow("InvalidJSON", f"the line is not an object but {with_article(kind(value))}", shown)
        values, misfits = self._values(value)
        if not misfits:
            return values
        first = misfits[0]
        return BadRow(first.kind, first.message, shown, None, first.path, self._batch([values]))

    def _broken(self, error: json.JSONDecodeError, shown: str) -> BadRow:
        """A line that is not JSON, with the columns before the error."""
        found, key = members(error.doc)
        what = error.msg.removesuffix(" at").removesuffix(" starting")
        message = f"{what[:1].lower()}{what[1:]} (character {error.pos + 1} of the line)"
        values, _ = self._values(found)
        return BadRow("InvalidJSON", message, shown, None, key, self._batch([values]) if found else None)

    def _values(self, value: dict[str, Any]) -> tuple[list[Any], list[Misfit]]:
        """One value per column, None if it does not fit, and the errors of those that do not fit."""
        values, misfits = [], []
        for field in self.schema:
            try:
                values.append(self._value(value, field))
            except Misfit as misfit:
                values.append(None)
                misfits.append(misfit)
        try:
            check_keys(value, self.names, "", self.strict)
        except Misfit as misfit:
            misfits.append(misfit)
        return values, misfits

    def _value(self, value: dict[str, Any], field: pa.Field) -> Any:
        try:
            given = value.get(field.name)
            if field.name in self.named:
                given = cast(given, field.type)
            found = fit(given, field, field.name, self.strict)
            if self.casts and found is not None:
                pa.array([found], native(field).type).cast(field.type)
        except RecursionError:
            raise Misfit(field.name, "nested too deep") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Misfit(field.name, f"{value[field.name]!r} does not fit {field.type}: {error}") from error
        return found

    def _kept(self, bad: BadRow, line: bytes) -> BadRow:
        """The bad row with the columns that have no invalid bytes."""
        try:
            value = parse(line.decode("utf-8", "surrogateescape"))
        except (ValueError, RecursionError):
            return bad
        if not isinstance(value, dict):
            return bad
        values, misfits = self._values(value)
        column = next((misfit.path for misfit in misfits if misfit.kind == "InvalidUTF8"), None)
        return replace(bad, column=column, values=self._batch([values]))

    def _batch(self, rows: list[list[Any]]) -> pa.RecordBatch:
        columns = [
            pa.array(values, each.type) for values, each in zip(zip(*rows, strict=True), self.native, strict=True)
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.native)
        return _cast(batch, self.schema) if self.casts else batch


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    fields = [unmarked(schema.field(name)) for name in batch.schema.names]
    columns = [column.cast(field.type) for column, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _lines(block: bytes) -> int | None:
    """The number of lines that are not blank; None if some line does not begin and end like an object.

    Arrow reads two objects in one line as two rows, and an object over two lines as one row.
    """
    count = block.count(b"\n")
    # The usual block is checked without a copy of each line, which would take a third of the time of parsing.
    if block.startswith(b"{") and block.endswith(b"}\n") and block.count(b"}\n{") == count - 1:
        return count
    lines = [line for each in block.split(b"\n") if (line := each.strip())]
    return len(lines) if all(line.startswith(b"{") and line.endswith(b"}") for line in lines) else None


def _has_rounded(table: pa.Table) -> bool:
    """Whether some double is so large that the file may contain an integer without an equal double."""
    return any(_is_large(column) for column in table.columns)


def _is_large(column: pa.ChunkedArray | pa.Array) -> bool:
    type_ = column.type
    if pa.types.is_floating(type_):
        most = pc.min_max(column)
        return any(most[end].is_valid and abs(most[end].as_py()) >= EXACT_BELOW for end in ("min", "max"))
    if not pa.types.is_nested(type_) or pa.types.is_map(type_):
        return False
    arrays = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    inner = (a.flatten() if pa.types.is_struct(type_) else [a.flatten()] for a in arrays)
    return any(_is_large(each) for arrays in inner for each in arrays)
