"""JSON lines, split into byte ranges at line ends. That is always safe, because JSON escapes line ends in strings.

Types of keys are inferred in `json_types`, lines are parsed in `json_parser`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import BinaryIO

import pyarrow as pa
from fsspec import AbstractFileSystem

from jobs.source.formats import json_types, signature
from jobs.source.formats.json_parser import Parser
from jobs.source.formats.json_values import parse
from jobs.source.shard import BadRow, Layout
from jobs.spec import SourceSpec
from transforms.errors import SourceError, UnreadableSource

SHARD_BYTES = 64 << 20
BLOCK_BYTES = 4 << 20
# The schema is inferred from this many bytes; a row with a key that first occurs later is rejected.
SAMPLE_BYTES = 16 << 20
# Line numbers are counted from the beginning of the file, in at most this many bytes.
COUNTED_BYTES = 1 << 30
UTF8_MARK = b"\xef\xbb\xbf"


def inspect(fs: AbstractFileSystem, path: str, spec: SourceSpec) -> Layout:
    """Infer the schema from the head of the file and find line ends near every SHARD_BYTES.

    Raises:
        UnreadableSource: the file is not JSON lines.
    """
    with open_bytes(fs, path) as stream:
        head = _head(stream)
    schema = _schema(head, path)
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

    Keys that are not in the schema are ignored if `source.columns` is set; otherwise they make the line a BadRow.
    """
    parser = Parser(schema, strict=spec.columns is None, named=spec.types or {})
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
                        item = _placed(item, None if before < 0 else item.row + before + lines)
                    yield item
            else:
                yield from batches
            lines += block.count(b"\n")


def _placed(bad: BadRow, row: int | None) -> BadRow:
    """The bad row with its number, which the message names together with the column."""
    place = [f"record {row}"] if row is not None else []
    place += [f"column {bad.column!r}"] if bad.column is not None else []
    return replace(bad, row=row, message=": ".join([", ".join(place), bad.message] if place else [bad.message]))


def open_bytes(fs: AbstractFileSystem, path: str) -> BinaryIO:
    """Open a file for reading; it is decompressed if its name ends in gz, zst, bz2 or xz."""
    return fs.open(path, "rb", compression="infer")


def is_compressed(path: str) -> bool:
    """Whether the name ends in a compression format, so that the file must be read from its beginning."""
    return path.endswith((".gz", ".zst", ".bz2", ".xz"))


def _head(stream: BinaryIO) -> bytes:
    """The first whole lines of a file, about SAMPLE_BYTES; more if the first line is longer."""
    head = stream.read(SAMPLE_BYTES)
    while len(head) >= SAMPLE_BYTES and b"\n" not in head:
        more = stream.read(len(head))
        if not more:
            return head
        head += more
    return head[: head.rfind(b"\n") + 1] if len(head) >= SAMPLE_BYTES else head


def _schema(head: bytes, path: str) -> pa.Schema:
    signature.refuse(head, path, is_compressed(path))
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UnreadableSource(f"{path} is UTF-16, and JSON lines are UTF-8; convert it: iconv -f UTF-16 -t UTF-8")
    head = head.removeprefix(UTF8_MARK)
    keys = json_types.infer(head)
    if head.lstrip()[:1] == b"[" and (keys.objects == 0 or not _is_json(head.lstrip().split(b"\n", 1)[0])):
        raise UnreadableSource(f"{path} is one JSON array, not JSON lines; write one object a line: jq -c '.[]'")
    # Arrow infers the keys of objects over several lines too, and of several objects in one line.
    if keys.objects == 0 or (head.strip() and not any(map(_is_object, io.BytesIO(head)))):
        raise UnreadableSource(f"{path} has no line that is a JSON object; write one object a line: jq -c .")
    return keys.schema


def _is_json(line: bytes) -> bool:
    try:
        parse(line.decode())
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(line: bytes) -> bool:
    """Whether a line is one JSON object; its texts may have bytes that are not UTF-8."""
    try:
        return isinstance(parse(line.decode("utf-8", "replace")), dict)
    except RecursionError:
        # An object that is nested too deep is a rejected row.
        return True
    except ValueError:
        return False


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
    """Number of lines before byte `start`; -1 if that is too far to count."""
    if start > COUNTED_BYTES:
        return -1
    count = 0
    with open_bytes(fs, path) as stream:
        while start > 0 and (block := stream.read(min(BLOCK_BYTES, start))):
            count += block.count(b"\n")
            start -= len(block)
    return count
