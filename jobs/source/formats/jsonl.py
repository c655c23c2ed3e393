"""JSON lines, split by byte ranges at line ends: always safe, since JSON escapes a line end inside a string.

Arrow parses whole blocks. A block with a line or a cell that Arrow does not take is read again line by line, so that
one bad cell rejects one row, with the key named and the other columns kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from fsspec import AbstractFileSystem

from jobs.source.formats import json_types
from jobs.source.formats.json_values import Misfit, check_keys, fit, kind, native, parse, unmarked
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import SourceError, UnreadableSource

SHARD_BYTES = 64 << 20
BLOCK_BYTES = 4 << 20
# The schema is inferred from this much of a file; a key first seen later makes its row a rejected row.
SAMPLE_BYTES = 16 << 20
# A line number is counted from the beginning of the file, but not past this many bytes.
COUNTED_BYTES = 1 << 30
UTF8_MARK = b"\xef\xbb\xbf"
# Doubles from here on leave out integers.
EXACT_BELOW = 2.0**53


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Infer the schema from the head of the file and find line ends near every SHARD_BYTES.

    Raises:
        UnreadableSource: the file is no JSON lines, or the values of a wanted key have nothing in common.
    """
    with open_bytes(fs, path) as stream:
        head = _head(stream)
    schema = _schema(head, path, spec)
    if is_compressed(path):
        return Layout(schema, [(0, 0, None)])
    size = fs.size(path)
    about_rows = round(size * head.count(b"\n") / max(1, len(head)))
    cuts = [0]
    with fs.open(path, "rb") as stream:
        while cuts[-1] + SHARD_BYTES < size:
            stream.seek(cuts[-1] + SHARD_BYTES)
            stream.readline()
            cuts.append(stream.tell())
    cuts += [size] * (cuts[-1] != size or len(cuts) == 1)
    return Layout(schema, [(a, b, None) for a, b in pairwise(cuts)], about_rows)


def read(
    fs: AbstractFileSystem, path: str, start: int, stop: int, schema: pa.Schema, batch_rows: int, spec: SourceSpec
) -> Iterator[pa.RecordBatch | BadRow]:
    """Parse the lines of bytes `[start, stop)`; a line that does not fit the schema is a BadRow.

    Other keys than the schema's are ignored where columns were selected, and make a BadRow where all were wanted.
    """
    parser = _Parser(schema, strict=spec.columns is None)
    before: int | None = None
    lines = 0
    with open_bytes(fs, path) as stream:
        stream.seek(start)
        for block in _lines(stream, stop - start if stop else None):
            block = block.removeprefix(UTF8_MARK) if not start and not lines else block
            batches = parser.batches(block)
            if batches is None:
                before = _lines_before(fs, path, start) if before is None else before
                for item in parser.rows(block):
                    if isinstance(item, BadRow) and item.row is not None:
                        item = replace(item, row=None if before < 0 else item.row + before + lines)
                    yield item
            else:
                yield from batches
            lines += block.count(b"\n")


def open_bytes(fs: AbstractFileSystem, path: str) -> BinaryIO:
    """Open a file for reading, decompressed if its ending says gz, zst, bz2 or xz."""
    return fs.open(path, "rb", compression="infer")


def is_compressed(path: str) -> bool:
    """Whether the ending names a compression, so that the file has to be read from its beginning."""
    return path.endswith((".gz", ".zst", ".bz2", ".xz"))


def _head(stream: BinaryIO) -> bytes:
    """Whole lines, about SAMPLE_BYTES; more if the first line is longer."""
    head = stream.read(SAMPLE_BYTES)
    while len(head) >= SAMPLE_BYTES and b"\n" not in head:
        more = stream.read(len(head))
        if not more:
            return head
        head += more
    return head[: head.rfind(b"\n") + 1] if len(head) >= SAMPLE_BYTES else head


def _schema(head: bytes, path: str, spec: SourceSpec) -> pa.Schema:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableSource(f"{path} is UTF-16, and JSON lines are UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
    head = head.removeprefix(UTF8_MARK)
    keys = json_types.infer(head)
    if head.lstrip()[:1] == b"[" and (keys.objects == 0 or not _is_json(head.lstrip().split(b"\n", 1)[0])):
        raise UnreadableSource(f"{path} is one JSON array, not JSON lines; write one object a line: jq -c '.[]'")
    if keys.objects == 0:
        raise UnreadableSource(f"{path} has no line that is a JSON object; write one object a line: jq -c .")
    for key, places in keys.mixed.items():
        if (spec.columns is None or key in spec.columns) and key not in (spec.types or {}):
            raise UnreadableSource(
                f"{path}: the key {key!r} has {places}; leave it out with source.columns, or keep it as JSON text with "
                f"source.types: {{{key}: string}}"
            )
    return keys.schema


def _is_json(line: bytes) -> bool:
    try:
        parse(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _lines(stream: BinaryIO, length: int | None) -> Iterator[bytes]:
    """Blocks of whole lines."""
    left = length
    rest: list[bytes] = []
    while left is None or left > 0:
        block = stream.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left))
        if not block:
            break
        left = None if left is None else left - len(block)
        if cut := block.rfind(b"\n") + 1:
            yield b"".join([*rest, block[:cut]])
            rest, block = [], block[cut:]
        if block:
            rest.append(block)
    if left:
        raise SourceError(f"the file ended {left} bytes before its planned end; it was changed while being read")
    if rest:
        yield b"".join(rest)


def _lines_before(fs: AbstractFileSystem, path: str, start: int) -> int:
    """Lines before byte `start`; -1 if that is too far to count."""
    if start > COUNTED_BYTES:
        return -1
    count = 0
    with open_bytes(fs, path) as stream:
        while start > 0 and (block := stream.read(min(BLOCK_BYTES, start))):
            count += block.count(b"\n")
            start -= len(block)
    return count


class _Parser:
    """Lines -> record batches of a schema.

    Args:
        schema: columns and their types.
        strict: whether other keys are errors.
    """

    def __init__(self, schema: pa.Schema, strict: bool):
        self.schema = schema
        self.strict = strict
        self.native = pa.schema([native(unmarked(each)) for each in schema])
        self.casts = not self.native.equals(schema)
        self.options = pa.json.ParseOptions(
            explicit_schema=self.native, unexpected_field_behavior="error" if strict else "ignore"
        )

    def batches(self, block: bytes) -> list[pa.RecordBatch] | None:
        """A block as a whole; None if something in it is wrong."""
        if not block.strip():
            return []
        try:
            whole = pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
            table = pa.json.read_json(pa.BufferReader(block), whole, self.options)
            # JSON can escape half of a surrogate pair; Arrow copies it as it is.
            table.validate(full=True)
            if _has_rounded(table):
                return None
            if not self.casts:
                return list(table.to_batches())
            return [_cast(batch, self.schema) for batch in table.to_batches()]
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
            return None

    def rows(self, block: bytes) -> Iterator[pa.RecordBatch | BadRow]:
        """The slow path: good lines in batches, bad ones by themselves, `row` counted from the block's beginning."""
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
        """One value a column, or what is wrong with the line."""
        shown = line.decode("utf-8", "backslashreplace")
        try:
            value: Any = parse(line.decode())
        except UnicodeDecodeError as error:
            # Where the bytes are wrong in one string, the others can be kept.
            return self._kept(BadRow("InvalidUTF8", f"byte {error.start} of the line: {error.reason}", shown), line)
        except RecursionError:
            return BadRow("InvalidJSON", "nested too deep", shown)
        except ValueError as error:
            return BadRow("InvalidJSON", str(error), shown)
        if not isinstance(value, dict):
            return BadRow("InvalidJSON", f"a line holds one object, this one a {kind(value)}", shown)
        values, misfits = self._values(value)
        if not misfits:
            return values
        first = misfits[0]
        message = f"{first.path}: {first.message}"
        return BadRow(first.kind, message, shown, None, first.path, self._batch([values]))

    def _values(self, value: dict[str, Any]) -> tuple[list[Any], list[Misfit]]:
        """One value a column, None where it does not fit, and what does not fit."""
        values, misfits = [], []
        for field in self.schema:
            try:
                values.append(self._value(value, field))
            except Misfit as misfit:
                values.append(None)
                misfits.append(misfit)
        try:
            check_keys(value, self.schema.names, "", self.strict)
        except Misfit as misfit:
            misfits.append(misfit)
        return values, misfits

    def _value(self, value: dict[str, Any], field: pa.Field) -> Any:
        try:
            found = fit(value.get(field.name), field, field.name, self.strict)
            if self.casts and found is not None:
                pa.array([found], native(field).type).cast(field.type)
        except RecursionError:
            raise Misfit(field.name, "nested too deep") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise Misfit(field.name, f"{value[field.name]!r} does not fit {field.type}: {error}") from error
        return found

    def _kept(self, bad: BadRow, line: bytes) -> BadRow:
        """The bad row with the columns that have no bad bytes."""
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
        columns = [pa.array(values, each.type) for values, each in zip(zip(*rows, strict=True), self.native, strict=True)]
        batch = pa.RecordBatch.from_arrays(columns, schema=self.native)
        return _cast(batch, self.schema) if self.casts else batch


def _cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    fields = [unmarked(schema.field(name)) for name in batch.schema.names]
    columns = [column.cast(field.type) for column, field in zip(batch.columns, fields, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))


def _has_rounded(table: pa.Table) -> bool:
    """Whether a double is so large that the file may have had an integer that no double is."""
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
