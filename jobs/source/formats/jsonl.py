"""JSON lines, split by byte ranges at line ends: always safe, since JSON escapes a line end inside a string."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import pairwise
from typing import Any, BinaryIO

import orjson
import pyarrow as pa
import pyarrow.json
from fsspec import AbstractFileSystem

from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import SourceError

SHARD_BYTES = 64 << 20
BLOCK_BYTES = 4 << 20
# The schema is inferred from this much of a file; a key first seen later makes its row a rejected row.
SAMPLE_BYTES = 16 << 20


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Infer the schema from the head of the file and find line ends near every SHARD_BYTES."""
    with open_bytes(fs, path) as stream:
        head = stream.read(SAMPLE_BYTES)
        if len(head) == SAMPLE_BYTES:
            head = head[: head.rfind(b"\n") + 1] or head
    if head.lstrip()[:1] == b"[":
        raise SourceError(f"{path} is one JSON array, not JSON lines; write one object a line")
    schema = _infer(head)
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
    options = _options(schema, "error" if spec.columns is None else "ignore")
    with open_bytes(fs, path) as stream:
        stream.seek(start)
        for block in _lines(stream, stop - start if stop else None):
            try:
                yield from _parse(block, options)
            except pa.ArrowInvalid:
                yield from _parse_each(block, options)


def open_bytes(fs: AbstractFileSystem, path: str) -> BinaryIO:
    """Open a file for reading, decompressed if its ending says gz, zst, bz2 or xz."""
    return fs.open(path, "rb", compression="infer")


def is_compressed(path: str) -> bool:
    """Whether the ending names a compression, so that the file has to be read from its beginning."""
    return path.endswith((".gz", ".zst", ".bz2", ".xz"))


def _lines(stream: BinaryIO, length: int | None) -> Iterator[bytes]:
    """Blocks of whole lines."""
    left = length
    rest = b""
    while left is None or left > 0:
        block = stream.read(BLOCK_BYTES if left is None else min(BLOCK_BYTES, left))
        if not block:
            break
        left = None if left is None else left - len(block)
        rest += block
        if cut := rest.rfind(b"\n") + 1:
            yield rest[:cut]
            rest = rest[cut:]
    if left:
        raise SourceError(f"the file ended {left} bytes before its planned end; it was changed while being read")
    if rest:
        yield rest


def _options(schema: pa.Schema | None, unexpected: str) -> pa.json.ParseOptions:
    return pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior=unexpected)


def _infer(head: bytes) -> pa.Schema:
    """The schema of the lines that are JSON objects; keys are kept in the order they are first seen."""
    if not head.strip():
        return pa.schema([])
    block = pa.json.ReadOptions(use_threads=False, block_size=len(head) + 1)
    try:
        return pa.json.read_json(pa.BufferReader(head), block, _options(None, "infer")).schema
    except pa.ArrowInvalid:
        return _infer_each(head)


def _infer_each(head: bytes) -> pa.Schema:
    """The slow path of a head with bad lines: what is no object, or contradicts the lines before it, does not count."""
    schema = pa.schema([])
    for line in filter(_is_object, head.split(b"\n")):
        with suppress(pa.ArrowInvalid, pa.ArrowTypeError):
            found = pa.json.read_json(pa.BufferReader(line), None, _options(None, "infer")).schema
            schema = pa.unify_schemas([schema, found], promote_options="permissive")
    return schema


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        return False


def _parse(block: bytes, options: pa.json.ParseOptions) -> Iterator[pa.RecordBatch]:
    if block.strip():
        whole = pa.json.ReadOptions(use_threads=False, block_size=len(block) + 1)
        table = pa.json.read_json(pa.BufferReader(block), whole, options)
        # JSON can escape half of a surrogate pair; Arrow copies it as it is.
        table.validate(full=True)
        yield from table.to_batches()


def _parse_each(block: bytes, options: pa.json.ParseOptions) -> Iterator[pa.RecordBatch | BadRow]:
    """The slow path of a block with a bad line: good lines in batches, bad ones by themselves."""
    good: list[bytes] = []
    for line in block.split(b"\n"):
        if not line.strip():
            continue
        complaint = _complaint(line, options)
        if complaint is None:
            good.append(line)
            continue
        if good:
            yield from _parse(b"\n".join(good), options)
            good = []
        yield complaint
    if good:
        yield from _parse(b"\n".join(good), options)


def _complaint(line: bytes, options: pa.json.ParseOptions) -> BadRow | None:
    shown = line.decode("utf-8", "backslashreplace")
    try:
        line.decode("utf-8")
        value: Any = orjson.loads(line)
        if not isinstance(value, dict):
            return BadRow("InvalidJSON", f"a line holds one object, this one a {type(value).__name__}", shown)
        list(_parse(line, options))
    except UnicodeDecodeError as error:
        return BadRow("InvalidUTF8", str(error), shown)
    except orjson.JSONDecodeError as error:
        return BadRow("InvalidJSON", str(error), shown)
    except pa.ArrowInvalid as error:
        extra = sorted(set(value) - set(options.explicit_schema.names))
        if extra and options.unexpected_field_behavior == "error":
            unseen = f"keys {', '.join(extra)} are not in the head of the file; name the wanted ones in source.columns"
            return BadRow("UnexpectedKey", unseen, shown)
        return BadRow("InvalidJSON", str(error), shown)
    return None
