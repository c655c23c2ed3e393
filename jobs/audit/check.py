"""Audit a night before its commit: it passes, a person has approved it, or it is held back."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from jobs.audit import record
from jobs.audit.measure import measures
from jobs.audit.record import Approval, Audit, Measure
from jobs.plan import Plan
from jobs.plan.fingerprint import digest
from jobs.report import history
from jobs.sink.entry import Entry
from jobs.sink.folder import FolderSink
from transforms.errors import HeldBack


def check(plan: Plan, sink: FolderSink, after: Mapping[str, Entry]) -> None:
    """Audit what a plan is about to publish and remove, and keep the record of it in the sink.

    An approval counts for exactly the rows that the person was told about; if others are staged, they are audited.

    Args:
        plan: the run, executed.
        sink: where its rows are staged.
        after: the published entries as they would be, by slot.

    Raises:
        HeldBack: a limit of `sink.audit` is passed, and nobody has approved these rows.
    """
    spec = plan.spec.sink.audit
    new = sink.to_publish(plan)
    if spec is None or not (new or sink.superseded(plan)):
        return
    nights = [night.findings for night in history.before(sink.store, plan.run_id)]
    found = measures(spec, new, sink.published.read().values(), after.values(), nights)
    rows = identity(plan, sink)
    audit = Audit(plan.run_id, now(), rows, found, approval(sink, rows))
    record.write(sink.store, audit)
    if audit.held:
        raise HeldBack(sentence(audit.failed))


def identity(plan: Plan, sink: FolderSink) -> str:
    """A hash of the shards that the commit of a plan publishes, as they were written, and of those that it removes."""
    new = [(entry.slot, entry.shard, entry.run_id, entry.time) for entry in sink.to_publish(plan)]
    return digest([sorted(new), sorted(entry.slot for entry in sink.superseded(plan))])


def approval(sink: FolderSink, rows: str) -> Approval | None:
    """The approval of these rows; None if nobody has given one since the last night that was published."""
    for audit in record.newest(sink.store):
        if not audit.failed:
            return None
        if audit.approval is not None:
            return audit.approval if audit.rows == rows else None
    return None


def sentence(failed: list[Measure]) -> str:
    """What holds a night back, and how it goes on."""
    worst = failed[0]
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return (
        f"the night is held back: {worst.text}, and sink.audit.{worst.key} allows {worst.limit:g}{more}; nothing was "
        f"published: publish the staged rows with `nightscribe publish JOB --reason WHY`, or correct what is wrong and "
        f"run again"
    )


def now() -> str:
    """The time, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
