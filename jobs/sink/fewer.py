"""Refuse a commit that would leave fewer rows of a source file than are published."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from jobs.sink.entry import Entry
from transforms.errors import SinkError


def refuse_fewer_rows(before: Mapping[str, Entry], after: Mapping[str, Entry], removed: Iterable[Entry]) -> None:
    """Refuse to publish fewer rows of the same version of a source file than are published.

    The plan refuses this too if the counts are known then; here the rows have been counted.

    Raises:
        SinkError: with the file and both counts.
    """
    if lost := shrunk(before, after, removed):
        key, published, new = lost[0]
        more = f" and rows of {len(lost) - 1} more files" if len(lost) > 1 else ""
        raise SinkError(
            f"the run read {new:,} rows of {key!r}, and {published:,} of the same version are published{more}; nothing "
            f"was replaced: give this run a sink.path of its own, or set sink.allow_fewer_rows=true"
        )


def shrunk(
    before: Mapping[str, Entry], after: Mapping[str, Entry], removed: Iterable[Entry] = ()
) -> list[tuple[str, int, int]]:
    """Source files that would have fewer rows in the sink although they did not change.

    Args:
        before: published entries by slot.
        after: the same once the plan is committed.
        removed: entries that the commit removes; those of files that are gone do not count.

    Returns:
        (file, rows published, rows afterwards), by file.
    """
    versions: dict[str, set[str]] = {}
    for entry in after.values():
        versions.setdefault(entry.key, set()).add(entry.version)
    gone = {entry.key for entry in removed} - versions.keys()
    rows: Counter[str] = Counter()
    for entry in before.values():
        if entry.key not in gone and {entry.version} == versions.get(entry.key):
            rows[entry.key] += entry.rows_in
    now: Counter[str] = Counter()
    for entry in after.values():
        now[entry.key] += entry.rows_in
    return sorted((key, count, now[key]) for key, count in rows.items() if now[key] < count)
