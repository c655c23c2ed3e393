"""The names of part files, and files in a sink that no entry names any more."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import PurePosixPath

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.sink.entry import Entry
from jobs.sink.ledger import Ledger
from jobs.sink.part import SOURCE
from jobs.source import Shard
from jobs.source.shard import TABLE
from jobs.store import Store, names

# File names as `part_name` makes them. Files with other names, or with another origin in their footer, are not touched.
PART = re.compile(r"-[0-9a-f]{8}-(\d+)\.parquet$")

# Columns that the rejected files of version 0.1.0 ended with.
OLD_REJECTED = ["_task", "_error_type", "_message", "_raw"]


def part_name(shard: Shard) -> str:
    """The part file of a shard below the sink, in the partition folder of its source file.

    Part files of a table have its partition columns, which readers of `column=value` folders would find twice.
    """
    key = PurePosixPath(shard.key if shard.format != TABLE else shard.key.replace("=", "-"))
    return (key.parent / f"{key.name.split('.')[0]}-{shard.slot[:8]}-{shard.start}.parquet").as_posix()


def delete_orphans(store: Store, published: Iterable[Entry]) -> None:
    """Delete our files that no entry names, left by a killed run of version 0.1.0 or a killed commit."""
    known = {name for entry in published for name in entry.files}
    for name in store.find((".parquet", names.REJECTED_ENDING)):
        if name not in known and not name.startswith(f"{names.FOLDER}/") and _is_ours(store, name):
            store.delete(name)


def delete_staged_orphans(store: Store, staged: Ledger) -> None:
    """Delete staged files that no entry names: of a killed writer, or one of two that did the same shard.

    Only the holder of the lease may call this, while nobody stages shards.
    """
    known = {name for entry in staged.read(look=False).values() for name in staged.files_of(entry)}
    for name in store.find(names.STAGED_ENDING, names.STAGED_FILES):
        if name not in known:
            store.delete(name)


def _is_ours(store: Store, name: str) -> bool:
    """Whether this program wrote a file: its name follows from the source file that its footer names."""
    part = name.removesuffix(names.REJECTED_ENDING).removeprefix(f"{names.REJECTED}/")
    if (found := PART.search(part)) is None:
        return False
    try:
        with store.open(name) as stream:
            schema = pq.read_schema(stream)
    except (pa.ArrowException, OSError):
        return False
    if (key := (schema.metadata or {}).get(SOURCE.encode())) is None:
        return name.startswith(f"{names.REJECTED}/") and schema.names[-len(OLD_REJECTED) :] == OLD_REJECTED
    shards = (Shard("", key.decode(), "", format_, int(found[1]), 0) for format_ in ("", TABLE))
    return any(part_name(shard) == part for shard in shards)
