"""The published entries whose rows a run may take results from, and the tasks whose results they have.

They are the entries that the run replaces (of a file with a shard to do), and those of files that are gone: joined,
split, renamed or copied files. So a lake that grows by a file a night looks at no older file.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from jobs.plan import Plan
from jobs.reuse import columns
from jobs.sink.entry import Entry
from transforms.options import column_of

# Entries of files that are gone are looked at only up to this many rows for each row to do, the newest first. Hashing a
# row takes some 2 microseconds; without a limit, a lake whose old files vanish would be hashed whole every night.
ROWS_PER_ROW = 20


@dataclass(frozen=True)
class Group:
    """Tasks that read the same columns and whose results the same entries have.

    Attributes:
        reads: columns of the source that the tasks read, directly or through other tasks.
        tasks: columns that the tasks add.
        hashes: the hash of each task, in the same order.
        donors: slots of the entries.
    """

    reads: tuple[str, ...]
    tasks: tuple[str, ...]
    hashes: tuple[str, ...]
    donors: tuple[str, ...]


def find(plan: Plan, published: Mapping[str, Entry], moved: Collection[str] = ()) -> tuple[str, ...]:
    """The slots of the entries that shards to do may take rows from, in a fixed order.

    Args:
        plan: the run, with what is to do.
        published: the entries that readers see, by slot, as `Sink.donor_entries` gives them.
        moved: source files of the rows that the entry without a shard stands for.
    """
    if not plan.todo or (plan.spec.sink.reuse == "files" and plan.attempts is None):
        return ()
    wanted = {value for _, value in _accepted(plan)}
    shards = {shard.slot: shard for shard in plan.shards}
    keys = {shard.key for shard in plan.shards} | plan.left_out
    replaced = {shard.key for shard in plan.shards_todo}
    useful, gone = [], []
    for slot, entry in published.items():
        if not entry.rows_out or wanted.isdisjoint(value for _, value in entry.fingerprint.tasks):
            continue
        # The rows of such an entry are those of one shard, which takes whole columns.
        shard = shards.get(slot)
        if shard is not None and columns.find(plan, shard, entry):
            continue
        of = {entry.key} if entry.shard else moved
        if not replaced.isdisjoint(of):
            useful.append(entry)
        # A run that only tries rejected rows again does not list the others.
        elif not keys.issuperset(of) and plan.attempts is None:
            gone.append(entry)
    room = _rows(plan)
    for entry in sorted(gone, key=lambda entry: (entry.time, entry.slot), reverse=True):
        if room is not None and (room := room - entry.rows_out) < 0:
            break
        useful.append(entry)
    return tuple(
        entry.slot
        for entry in sorted(useful, key=lambda entry: [(piece.part, piece.first_row) for piece in entry.places])
    )


def _rows(plan: Plan) -> int | None:
    """How many rows of files that are gone are worth a look; None if nobody knows how many are to do."""
    known = [shard.about_rows if shard.rows is None else shard.rows for shard in plan.shards_todo]
    counts = [rows for rows in known if rows is not None]
    return ROWS_PER_ROW * sum(counts) if len(counts) == len(known) else None


def groups(plan: Plan, entries: Sequence[Entry]) -> list[Group]:
    """The tasks of a plan whose results some of the entries have."""
    read = reads(plan)
    # One column of a task a group: those of nights without a smaller model have groups of their own.
    found: dict[tuple[tuple[str, ...], tuple[str, ...], bool], list[tuple[str, str]]] = {}
    for into, value in _accepted(plan):
        slots = tuple(entry.slot for entry in entries if any(value == own for _, own in entry.fingerprint.tasks))
        if slots:
            is_own = (into, value) in plan.fingerprint.tasks
            found.setdefault((read[into], slots, is_own), []).append((into, value))
    return [
        Group(columns, tuple(into for into, _ in tasks), tuple(value for _, value in tasks), slots)
        for (columns, slots, _), tasks in found.items()
    ]


def _accepted(plan: Plan) -> list[tuple[str, str]]:
    """(column, hash) of each task, also as it is without a smaller model, whose results are as good."""
    exact = () if plan.exact is None else plan.exact.tasks
    return list(dict.fromkeys([*plan.fingerprint.tasks, *exact]))


def reads(plan: Plan) -> dict[str, tuple[str, ...]]:
    """The columns of the source that each task reads, directly or through other tasks."""
    found: dict[str, tuple[str, ...]] = {}
    for task in plan.tasks:
        columns: set[str] = set()
        # A task that names no column may read any of them.
        for column in task.spec.reads or [*plan.source.schema.names, *found]:
            columns.update(found.get(column_of(column, found), (column,)))
        found[task.spec.into] = tuple(sorted(columns))
    return found
