"""An index of rows by their hash: sorted numbers in files, which the processes of a machine map into their memory.

The first process that asks builds it under a lock: the rows are dealt into buckets by the first bits of their hashes,
then each bucket is sorted and added to the end of the index. So memory is that of one bucket, and 100 million rows need
2.4 GB of disk.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from jobs.reuse.digest import KEY

# Rows of a bucket, about: 24 MB, and some times that while they are sorted.
BUCKET_ROWS = 1 << 20

_ROW = np.dtype([("high", "u8"), ("low", "u8"), ("place", "u8")])

Numbers = np.ndarray[Any, np.dtype[np.uint64]]


@dataclass(frozen=True)
class Index:
    """Where rows are, by their hash; of equal rows the first.

    Attributes:
        high: first half of each hash, ascending.
        low: second half.
        place: what the row was added with.
    """

    high: Numbers
    low: Numbers
    place: Numbers

    def find(self, digests: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[np.ndarray[Any, np.dtype[np.bool_]], Numbers]:
        """Whether each hash is known, and the places of those that are.

        Args:
            digests: `(rows, 16)` bytes.
        """
        if not len(self.high):
            return np.zeros(len(digests), np.bool_), np.zeros(0, np.uint64)
        high, low = _numbers(digests)
        # In ascending order, the search reads neighbouring pages of the file.
        order = np.argsort(high)
        at = np.empty(len(high), np.int64)
        at[order] = np.searchsorted(self.high, high[order])
        at = np.minimum(at, len(self.high) - 1)
        # Of two rows that share only the first half, which no lake will ever have, the second counts as unknown.
        known = (self.high[at] == high) & (self.low[at] == low)
        return known, self.place[at[known]]


def opened(folder: Path, name: str, rows: int, batches: Iterable[tuple[np.ndarray[Any, Any], Numbers]]) -> Index:
    """The index of that name; it is built if no process of this machine has done so.

    Args:
        folder: where its files are, for this run only.
        name: names it in the folder.
        rows: about how many it will have.
        batches: (hashes, place of each row), in the order in which of equal rows the first is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / f"{name}.place"
    with FileLock(folder / f"{name}.lock"):
        if not done.exists():
            _build(folder, name, rows, batches)
    return Index(*(_mapped(folder / f"{name}.{column}") for column in ("high", "low", "place")))


def _build(folder: Path, name: str, rows: int, batches: Iterable[tuple[np.ndarray[Any, Any], Numbers]]) -> None:
    bits = max(0, (rows // BUCKET_ROWS).bit_length())
    buckets = [folder / f"{name}.bucket{i}" for i in range(1 << bits)]
    streams = [bucket.open("wb") for bucket in buckets]
    try:
        for digests, places in batches:
            found = np.empty(len(digests), _ROW)
            (found["high"], found["low"]), found["place"] = _numbers(digests), places
            # Numpy shifts by less than 64 bits only.
            of = found["high"] >> np.uint64(64 - bits) if bits else np.zeros(len(found), np.uint64)
            order = np.argsort(of, kind="stable")
            ends = np.searchsorted(of[order], np.arange(len(buckets) + 1))
            for i in np.flatnonzero(np.diff(ends)):
                found[order[ends[i] : ends[i + 1]]].tofile(streams[i])
    finally:
        for stream in streams:
            stream.close()
    # The last of them says that the index is whole.
    names = {column: folder / f"{name}.{column}" for column in ("high", "low", "place")}
    with names["high"].open("wb") as high, names["low"].open("wb") as low:
        building = names["place"].with_suffix(".building")
        with building.open("wb") as place:
            for bucket in buckets:
                found = np.fromfile(bucket, _ROW)
                bucket.unlink()
                # Of equal hashes the first place comes first.
                found = found[np.lexsort((found["place"], found["low"], found["high"]))]
                first = np.ones(len(found), np.bool_)
                first[1:] = (np.diff(found["high"]) != 0) | (np.diff(found["low"]) != 0)
                for column, stream in (("high", high), ("low", low), ("place", place)):
                    np.ascontiguousarray(found[column][first]).tofile(stream)
    building.rename(names["place"])


def _numbers(digests: np.ndarray[Any, np.dtype[np.uint8]]) -> tuple[Numbers, Numbers]:
    """The two halves of each hash as numbers of this machine."""
    pairs = np.ascontiguousarray(digests).view(KEY)[:, 0]
    return pairs["high"].astype(np.uint64), pairs["low"].astype(np.uint64)


def _mapped(file: Path) -> Numbers:
    # A file without bytes cannot be mapped.
    return np.memmap(file, np.uint64, "r") if file.stat().st_size else np.zeros(0, np.uint64)
