"""What a run did: the accounts, checked and written down."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from transforms.errors import SinkError, TooManyRejects

if TYPE_CHECKING:
    # What writes part files observes them with `jobs.report.findings`, so this package must not import it in turn.
    from jobs.plan import Plan
    from jobs.report.findings import Findings
    from jobs.sink.ledger import Entry

LIBRARIES = ("apache-beam", "datasets", "peft", "pyarrow", "torch", "transformers")


@dataclass(frozen=True)
class Report:
    """A run in numbers; the counts are those of the shards that this run executed.

    Attributes:
        rows_in: rows that entered the tasks, unreadable ones included.
        rows_out: rows in part files.
        rows_rejected: rows in rejected files; rows_in is the sum of both.
        shards: shards of the plan.
        shards_skipped: those that the ledger had already.
        tokens: real tokens computed.
        padded_tokens: slots computed, padding included.
        seconds: from plan to published.
        run_id: names the plan and the report below `_nightscribe/`.
        output: folder of the enriched rows.
    """

    rows_in: int
    rows_out: int
    rows_rejected: int
    shards: int
    shards_skipped: int
    tokens: int
    padded_tokens: int
    seconds: float
    run_id: str
    output: str

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.as_dict())


def account(plan: Plan, entries: dict[str, Entry], seconds: float) -> Report:
    """Check that every shard of a plan is done and that no row is missing, and count what this run did.

    Raises:
        SinkError: a shard without an entry, or rows that do not add up.
        TooManyRejects: over the whole plan, past `errors.max_fraction`.
    """
    own = [entries[shard.slot] for shard in plan.shards_todo if shard.slot in entries]
    undone = [shard for shard in plan.shards_todo if not _matches(entries.get(shard.slot), shard.id, plan)]
    if undone:
        raise SinkError(f"{len(undone)} of {len(plan.shards)} shards are not done, first {undone[0].key!r}; run again")
    for entry in entries.values():
        if entry.rows_in != entry.rows_out + entry.rows_rejected:
            raise SinkError(
                f"{entry.part}: {entry.rows_in} rows in, but {entry.rows_out} out and {entry.rows_rejected} rejected"
            )
    check_rejects(plan, [entries[shard.slot] for shard in plan.shards])
    return Report(
        rows_in=sum(entry.rows_in for entry in own),
        rows_out=sum(entry.rows_out for entry in own),
        rows_rejected=sum(entry.rows_rejected for entry in own),
        shards=len(plan.shards),
        shards_skipped=len(plan.shards) - len(plan.todo),
        tokens=sum(entry.tokens for entry in own),
        padded_tokens=sum(entry.padded_tokens for entry in own),
        seconds=round(seconds, 3),
        run_id=plan.run_id,
        output=plan.spec.sink.path,
    )


def check_rejects(plan: Plan, entries: list[Entry]) -> None:
    """Fail a run that rejected more than the job file allows.

    Raises:
        TooManyRejects: with the place where the rejected rows and their reasons are.
    """
    rejected, total = sum(entry.rows_rejected for entry in entries), sum(entry.rows_in for entry in entries)
    allowed = plan.spec.errors.max_fraction
    if total and rejected / total > allowed:
        raise TooManyRejects(
            f"{rejected} of {total} rows were rejected, errors.max_fraction allows {allowed:g}; "
            f"the reasons are in {plan.spec.sink.path}/_rejected"
        )


def details(plan: Plan, report: Report, findings: Findings, timeline: Sequence[tuple[float, int, int]]) -> str:
    """The report as kept in the sink: numbers, models, versions, histograms, and rows and tokens over time."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    kept = asdict(report) | {
        "name": plan.spec.name,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": plan.fingerprint.digest,
        "tasks": [task.to_json() for task in plan.tasks],
        "versions": versions,
        "findings": findings.to_json(),
        "timeline": list(timeline),
    }
    return json.dumps(kept, indent=1)


def _matches(entry: Entry | None, shard: str, plan: Plan) -> bool:
    return entry is not None and entry.shard == shard and entry.fingerprint == plan.fingerprint
