"""The shards of a plan that must be computed, because the ledger does not have them, each with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from jobs import source
from jobs.plan import Plan
from jobs.sink import Entry
from jobs.source import Shard, content
from transforms.errors import SpecError

NEW = "new file"
COMPACTED = "compacted file of the table"
CHANGED = "changed file"
REST = "rest of a file"
LIMITED = "another source.limit"
LOST = "its part file is gone from the sink"
MOVED = "its rows were rewritten by another writer, into files with rows that change now"


def subtract(plan: Plan, ledger: Mapping[str, Entry]) -> Plan:
    """The plan with the shards that are to do.

    Args:
        plan: the plan.
        ledger: what is done, by slot.

    Raises:
        SpecError: the run would leave fewer rows of a source file than are published.
    """
    shards = [shard if shard.limit is None else replace(shard, limit=None) for shard in plan.shards]
    versions: dict[str, set[str]] = {}
    for entry in ledger.values():
        versions.setdefault(entry.key, set()).add(entry.version)
    shards = [shard for shard in shards if not shard.pruned or shard.key in versions]
    reasons = {shard.slot: why for shard in shards if (why := _reason(plan, shard, ledger, versions)) is not None}
    reasons |= _compacted(plan, shards, reasons, versions.keys())
    if plan.spec.source.limit is not None:
        shards, reasons = _limited(plan, shards, reasons, ledger)
    copied = {s.slot for s in shards if s.slot not in reasons and ledger[s.slot].version != s.version}
    left_out = plan.left_out | {shard.key for shard in plan.shards} - {shard.key for shard in shards}
    found = replace(plan, shards=tuple(shards), todo=reasons, copied=frozenset(copied), left_out=left_out)
    if not plan.spec.sink.allow_fewer_rows:
        _refuse_fewer_rows(found, ledger)
    return found


def with_lost(plan: Plan, lost: Collection[str]) -> Plan:
    """The plan in which shards that are done again only because somebody has deleted their part files say so.

    Args:
        plan: what is to do.
        lost: slots of such shards, as `Sink.lost` gives them.
    """
    found = {slot: LOST for slot, why in plan.todo.items() if why in (NEW, REST) and slot in lost}
    return replace(plan, todo={**plan.todo, **found}) if found else plan


def with_moved(plan: Plan, moved: Collection[str]) -> Plan:
    """The plan with more shards to do: those whose rows share files of another writer with rows that change.

    Args:
        plan: what is to do otherwise.
        moved: slots of such shards, as `Sink.moved` gives them.
    """
    more = {shard.slot: MOVED for shard in plan.shards if shard.slot in moved and shard.slot not in plan.todo}
    return replace(plan, todo={**plan.todo, **more}, copied=plan.copied - more.keys()) if more else plan


def _reason(
    plan: Plan, shard: Shard, ledger: Mapping[str, Entry], versions: Mapping[str, Collection[str]]
) -> str | None:
    """The reason why a shard must be computed; None if it is done. `versions`: of the ledger by source file."""
    if (entry := ledger.get(shard.slot)) is None:
        if shard.key not in versions:
            return NEW
        return REST if shard.version in versions[shard.key] else CHANGED
    if entry.version != shard.version:
        if not is_copy(entry, shard):
            return CHANGED
        shard = replace(shard, version=entry.version)
    if not plan.accepts(entry.fingerprint):
        return plan.fingerprint.difference(entry.fingerprint)
    return None if entry.shard == shard.id else LIMITED


def _compacted(
    plan: Plan, shards: Sequence[Shard], reasons: Mapping[str, str], done: Collection[str]
) -> dict[str, str]:
    """The new shards of a table whose rows it had in other files, which are gone."""
    new = {shard.key for shard in shards if reasons.get(shard.slot) == NEW}
    if plan.spec.source.table is None or not new or set(done) <= {shard.key for shard in shards}:
        return {}
    # Imported here because most sources are no tables.
    from jobs.source import table

    found = table.compacted(plan.source.spec, new)
    return {shard.slot: COMPACTED for shard in shards if shard.slot in reasons and shard.key in found}


def is_copy(entry: Entry, shard: Shard) -> bool:
    """Whether a file with a new modification time (a copied lake) has the content that was enriched."""
    if entry.content is None or content.size(entry.version) != content.size(shard.version):
        return False
    return content.content_hash(shard) == entry.content


def _limited(
    plan: Plan, shards: list[Shard], reasons: dict[str, str], ledger: Mapping[str, Entry]
) -> tuple[list[Shard], dict[str, str]]:
    """The first shards that together give `source.limit` rows, the last of them cut short."""
    left = plan.spec.source.limit or 0
    kept: list[Shard] = []
    for shard in shards:
        if not left:
            break
        entry, done = ledger.get(shard.slot), shard.slot not in reasons
        rows = entry.rows_in if entry is not None and done else source.count(plan.source, shard, left + 1)
        if rows > left and not done:
            shard = replace(shard, limit=left)
            if _reason(plan, shard, ledger, {}) is None:
                del reasons[shard.slot]
        kept.append(shard)
        left -= min(rows, left)
    slots = {shard.slot for shard in kept}
    return kept, {slot: why for slot, why in reasons.items() if slot in slots}


def _refuse_fewer_rows(plan: Plan, ledger: Mapping[str, Entry]) -> None:
    """Refuse a condition, a prepare function or a limit that would remove published rows.

    A source file that itself became shorter is accepted: its rows are gone at the source too.

    Raises:
        SpecError: with the file and both counts.
    """
    replaced = [shard for shard in plan.shards_todo if shard.slot in ledger and _selects(plan, shard, ledger)]
    keys = {shard.key for shard in replaced}
    before: Counter[str] = Counter()
    after: Counter[str] = Counter()
    for shard in replaced:
        entry = ledger[shard.slot]
        before[shard.key] += entry.rows_out
        enough = entry.rows_out if shard.limit is None else min(entry.rows_out, shard.limit)
        after[shard.key] += source.count(plan.source, shard, enough)
    if not (fewer := [key for key in sorted(keys) if after[key] < before[key]]):
        return
    key = fewer[0]
    cause = _cause(plan)
    raise SpecError(
        f"{cause} would leave {after[key]:,} of the {before[key]:,} published rows of {key!r}"
        f"{_others(fewer)}; give this run its own sink.path, or allow the removal of the rows with "
        f"sink.allow_fewer_rows=true"
    )


def _selects(plan: Plan, shard: Shard, ledger: Mapping[str, Entry]) -> bool:
    """Whether a shard is redone with another selection of rows, and not only because its file changed."""
    entry = ledger[shard.slot]
    return entry.fingerprint.rows != plan.fingerprint.rows or shard.limit is not None


def _cause(plan: Plan) -> str:
    spec = plan.spec.source
    causes = [(spec.limit, f"source.limit {spec.limit}"), (spec.where, f"source.where {spec.where!r}")]
    causes.append((spec.prepare, f"source.prepare {spec.prepare!r}"))
    return next((text for value, text in causes if value is not None), "the source as it is selected now")


def _others(files: Iterable[str]) -> str:
    more = len(list(files)) - 1
    return f" and rows of {more} more file{'s' if more > 1 else ''}" if more else ""
