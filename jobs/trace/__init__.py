"""Trace rows of a sink to what made them: source file and version, run, models and adapters, options.

Published rows only, so that a sink can be searched while a run writes it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO

from jobs.sink import owner
from jobs.sink.entry import Entry
from jobs.sink.folder import FolderSink
from jobs.source.files import partition
from jobs.store import names
from jobs.trace.files import File
from jobs.trace.origin import Origin, origins
from jobs.trace.search import matches
from transforms.errors import SinkError, SpecError

LOG = logging.getLogger(__name__)

# A run that publishes meanwhile replaces files.
ATTEMPTS = 3


@dataclass(frozen=True)
class Traced:
    """The rows that meet a condition.

    Attributes:
        rows: the first of them, by source file.
        more: how many there are besides.
    """

    rows: list[Origin]
    more: int


def trace(sink: FolderSink, condition: str, limit: int) -> Traced:
    """Find rows, published or rejected, and say where they come from.

    Args:
        sink: the sink; a run may be writing to it.
        condition: SQL as in `source.where`.
        limit: maximum number of rows.

    Raises:
        SpecError: the condition is wrong, or the folder is no sink.
        UnreadableSink: a file is damaged.
        SinkError: the files of the sink were replaced again and again.
    """
    for attempt in range(ATTEMPTS):
        try:
            files = _files(sink)
            if attempt == ATTEMPTS - 1:
                files = _left(sink, files)
            if not files:
                if owner.read(sink.store) is None:
                    raise SpecError(
                        f"{sink.store.url!r} is no sink: it has no {names.LEDGER}; give the folder, the URL or the "
                        f"table that a job wrote to, or its job file with --job"
                    )
                return Traced([], 0)
            found, more = matches(files, condition, limit, f"the sink {sink.store.url!r}")
            traced = map(origins(sink.store), found)
            return Traced([origin for origin in traced if origin is not None], more)
        except FileNotFoundError:
            continue
    raise SinkError(f"the files of {sink.store.url!r} are being replaced by a run; run the command again")


def _files(sink: FolderSink) -> list[File]:
    """The published files of a sink, by source file and range."""
    entries = sorted(sink.published_entries().values(), key=lambda entry: (entry.key, entry.start))
    shards: dict[str, list[Entry]] = {}
    for entry in entries:
        for part in dict.fromkeys(piece.part for piece in entry.places):
            shards.setdefault(part, []).append(entry)
    found = []
    for part, owners in shards.items():
        # Of a table that has other partitions than its source, the part's own folders say so.
        folders = partition(owners[0].key) | partition(part)
        found.append(File(part, tuple(owners), False, folders, partial(_open, sink, owners[0], part)))
    for entry in entries:
        if (name := entry.rejected) is not None:
            folders = partition(entry.key)
            found.append(File(name, (entry,), True, folders, partial(sink.store.open, name)))
    return found


def _left(sink: FolderSink, files: Sequence[File]) -> list[File]:
    """The files without those of a table that another writer has replaced by others and deleted."""
    left = [each for each in files if each.rejected or not each.entries[0].in_table or sink.store.exists(each.name)]
    if len(left) < len(files):
        LOG.warning(
            "another writer has rewritten and deleted %d of the %d files of %s; their rows are not traced until a run "
            "writes them again",
            len(files) - len(left),
            len(files),
            sink.store.url,
        )
    return left


def _open(sink: FolderSink, entry: Entry, part: str) -> BinaryIO:
    """The part file; of a dataset it may be on the Hub only."""
    return sink.store.open(part) if sink.mirror is None else sink.open(entry)
