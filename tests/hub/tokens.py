"""Tokens must not be in anything that is written: files, and what a test or the program under test prints and logs."""

from __future__ import annotations

import gzip
import mmap
import re
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

_TOKEN = re.compile(rb"hf_[A-Za-z0-9]{34}")


def files_with(tokens: Collection[str], folders: Iterable[Path]) -> list[str]:
    """`file: the beginning of the token` for each file below the folders that has one of the tokens in it."""
    if not tokens:
        return []
    found = []
    for folder in folders:
        for file in folder.rglob("*"):
            # Links lead to files that are found by themselves.
            if not file.is_symlink() and file.is_file() and file.stat().st_size:
                found += [f"{file}: {token[:8]}..." for token in sorted(_in_file(file) & set(tokens))]
    return found


def in_text(tokens: Collection[str], text: str) -> set[str]:
    """Those of the tokens that are in a text."""
    return {each.decode() for each in _TOKEN.findall(text.encode(errors="replace"))} & set(tokens)


def _in_file(file: Path) -> set[str]:
    """All that looks like a token in a file; compressed ones are decompressed."""
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found, first = set(_TOKEN.findall(content)), content[:4]
    if first[:2] == b"\x1f\x8b":
        found |= _in_parts(lambda: [gzip.decompress(file.read_bytes())])
    elif first == b"PAR1":
        found |= _in_parts(lambda: _buffers(file))
    return {each.decode() for each in found}


def _in_parts(parts: Callable[[], Iterable[bytes | pa.Buffer]]) -> set[bytes]:
    # A test may write a file that is damaged on purpose.
    try:
        return {token for part in parts() for token in _TOKEN.findall(part)}
    except (OSError, EOFError, zlib.error, pa.ArrowException):
        return set()


def _buffers(file: Path) -> Iterator[pa.Buffer]:
    """The buffers of a Parquet file's columns, in which each string follows the one before."""
    for column in pq.ParquetFile(file).read().columns:
        for chunk in column.chunks:
            yield from (buffer for buffer in chunk.buffers() if buffer is not None)
