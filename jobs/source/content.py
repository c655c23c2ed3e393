"""The hash of a source file's content: distinguishes a copied or touched file from a changed one."""

from __future__ import annotations

import hashlib
import os
from functools import lru_cache

import xxhash

from jobs.source.shard import TABLE, Shard


def content_hash(shard: Shard) -> str | None:
    """The hash of the local file of a shard, or None for a file in a store, which has a checksum as its version.

    Also None for a data file of a table: rows of it may be deleted elsewhere while its content stays.

    A process computes it once per file, even if the file has many shards. XXH3 reads 19 GB/s where BLAKE2b reads 1.1.
    """
    return _hash(shard.file, shard.version) if shard.format != TABLE and os.path.isfile(shard.file) else None


def size(version: str) -> str:
    """The part of a local file's version that is the same for a copy; see `jobs.source.files.version`."""
    return version.partition("-")[0]


@lru_cache(maxsize=4096)
def _hash(path: str, version: str) -> str:
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, xxhash.xxh3_128).hexdigest()
