"""The shards of which `run --only-rejected` tries the rejected rows again; such a run does nothing else."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace

from jobs.plan import Plan
from jobs.plan.todo import is_copy
from jobs.sink.entry import Entry
from jobs.source import Shard

REJECTED = "rejected rows"


def select(plan: Plan, published: Mapping[str, Entry], ledger: Mapping[str, Entry]) -> Plan:
    """The plan with the finished shards, of which those with rows that a task rejected are to do.

    Shards of new and changed files, and those that a run with these tasks would do again anyway, wait for such a run.

    Args:
        plan: the plan.
        published: the entries that readers see, by slot.
        ledger: the same with the staged entries, which have precedence.
    """
    known = [shard for shard in plan.shards if shard.slot in published]
    shards = tuple(replace(shard, limit=published[shard.slot].limit) for shard in known)
    attempts = {
        shard.slot: entry.attempts + 1
        for shard in shards
        if (entry := published[shard.slot]).rows_broken
        and entry.attempts < plan.spec.errors.max_attempts
        and (entry.fingerprint == plan.fingerprint or plan.is_exact(entry.fingerprint))
        and _has_the_rows(entry, shard)
    }
    todo = {slot: REJECTED for slot, number in attempts.items() if ledger[slot].attempts < number}
    return replace(plan, shards=shards, attempts=attempts, todo=todo)


def without(plan: Plan, moved: Collection[str]) -> Plan:
    """The plan without shards whose rows share files of another writer of the table, which would all be done again."""
    attempts = {slot: number for slot, number in (plan.attempts or {}).items() if slot not in moved}
    return replace(plan, attempts=attempts, todo={slot: why for slot, why in plan.todo.items() if slot in attempts})


def given_up(plan: Plan, entries: Iterable[Entry]) -> int:
    """Rejected rows that were tried as often as `errors.max_attempts` allows."""
    return sum(entry.rows_broken for entry in entries if entry.attempts >= plan.spec.errors.max_attempts)


def _has_the_rows(entry: Entry, shard: Shard) -> bool:
    """Whether a shard has the rows that an entry is of."""
    return entry.shard == replace(shard, version=entry.version).id and (
        entry.version == shard.version or is_copy(entry, shard)
    )
