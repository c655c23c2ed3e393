"""The report of a run: row counts, checked and kept in the sink."""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from jobs.parts.timeline import Numbers
from jobs.report.first import FirstNumbers
from jobs.store.names import STAGED_REJECTED
from jobs.store.requests import Counted
from transforms.contract import Truncated
from transforms.errors import SinkError, TooManyRejects

if TYPE_CHECKING:
    # The writer of part files imports `jobs.report.findings`, so this package must not import the writer.
    from jobs.plan import Plan
    from jobs.plan.task import TaskPlan
    from jobs.report.findings import Findings
    from jobs.sink.entry import Entry

LIBRARIES = ("apache-beam", "datasets", "peft", "pyarrow", "torch", "transformers")


Status = Literal["finished", "failed", "stopped", "held"]
FINISHED: Status = "finished"
STOPPED: Status = "stopped"
HELD: Status = "held"


@dataclass(frozen=True)
class Report:
    """The numbers of a night: this run and all attempts since the last finished run together.

    Attributes:
        rows_in: rows that entered the tasks, unreadable ones included.
        rows_out: rows in part files.
        rows_rejected: rows in rejected files; rows_in is the sum of both.
        shards: shards of the plan.
        shards_skipped: those that were done when this run started.
        tokens: real tokens computed.
        padded_tokens: token positions computed, including padding.
        seconds: from plan to published, of all attempts.
        run_id: names the plan and the report below `_nightscribe/`.
        output: folder of the enriched rows; for a dataset of the Hub the one from which they are published.
        status: how this run ended: finished, failed, stopped, or held back by its audit.
        attempts: runs since the last one that finished, this one included.
        shards_done: shards that these attempts enriched.
        rows_reused: rows whose values were taken from older part files.
        rows_given_up: rejected rows that were tried as often as `errors.max_attempts` allows, in a run that only tries
            rejected rows again.
        rows_removed: rows taken from the sink because their source files are gone (`on_vanished: remove`).
        rows_vanished: rows that are still in the sink although their source files are gone.
        rows_drawn: rows that were drawn for people to label (`review`).
        hub_requests: requests of this run to the Hub, those of its plan and its workers included.
        hub_bytes: bytes that it received from there.
        store_requests: requests of this run to object stores, of the same extent, up to the writing of the report.
        dataset: the dataset of the Hub that the rows were published to, for a person; None for other sinks.
        commit: URL of its newest commit, which has the rows; None if nothing was published.
        uploaded_bytes: size of the part files that this run published.
        parts: of a run that was divided: their number, workers, lost and refused ones, and shards by worker.
        split: how this machine was divided between processes, and why; empty if it executed no shard.
        batches: how large the batches of each task were, and why; empty if it executed no shard with a model.
        first: column of a task with a smaller model -> what that did.
        truncated: column of a task -> how many of the rows that were computed were longer than the model's window, and
            lost the tokens beyond it; only of tasks that can cut.
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
    status: Status = FINISHED
    attempts: int = 1
    shards_done: int = 0
    rows_reused: int = 0
    rows_given_up: int = 0
    rows_removed: int = 0
    rows_vanished: int = 0
    rows_drawn: int = 0
    hub_requests: int = 0
    hub_bytes: int = 0
    store_requests: Counted = field(default_factory=Counted)
    dataset: str | None = None
    commit: str | None = None
    uploaded_bytes: int = 0
    parts: Numbers | None = None
    split: str = ""
    batches: str = ""
    first: Mapping[str, FirstNumbers] = field(default_factory=dict)
    truncated: Mapping[str, Truncated] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.as_dict())


def account(plan: Plan, entries: Mapping[str, Entry]) -> None:
    """Check that every shard of a plan is done, that no row is missing, and that few enough were rejected.

    Raises:
        SinkError: a shard without an entry, or rows that do not add up.
        TooManyRejects: more rows of the whole plan than `errors.max_fraction` allows.
    """
    undone = [shard for shard in plan.shards_todo if not _matches(entries.get(shard.slot), shard.id, plan)]
    if undone:
        raise SinkError(f"{len(undone)} of {len(plan.shards)} shards are not done, first {undone[0].key!r}; run again")
    for entry in entries.values():
        if entry.rows_in != entry.rows_out + entry.rows_rejected:
            raise SinkError(
                f"{entry.part}: {entry.rows_in} rows in, but {entry.rows_out} out and {entry.rows_rejected} rejected"
            )
    check_rejects(plan, [entries[shard.slot] for shard in plan.shards])


def check_rejects(plan: Plan, entries: list[Entry]) -> None:
    """Fail a run that rejected more than the job file allows; one rejected row is too many only if none is allowed.

    Raises:
        TooManyRejects: the message names the folder with the rejected rows and their reasons.
    """
    rejected, total = sum(entry.rows_rejected for entry in entries), sum(entry.rows_in for entry in entries)
    allowed = plan.spec.errors.max_fraction
    if rejected > (max(1, allowed * total) if allowed else 0):
        raise TooManyRejects(
            f"{rejected} of {total} rows were rejected, errors.max_fraction allows {allowed:g}"
            f"{_first_reject(entries)}; nothing was published: the reasons are in the report and in "
            f"{plan.spec.sink.path}/{STAGED_REJECTED}"
        )


def _first_reject(entries: list[Entry]) -> str:
    """Place and reason of the first rejected row; not its message, which may quote the row."""
    failures = [failure for entry in entries for failure in (entry.findings or {}).get("failures", ())]
    if not failures:
        return ""
    first = failures[0]
    place = [repr(first["file"])]
    place += [f"record {first['row']}"] if first["row"] is not None else []
    place += [f"column {first['column']!r}"] if first["column"] is not None else []
    return f" (first: {', '.join(place)}: {first['reason']})"


def details(
    plan: Plan, report: Report, findings: Findings, timeline: Sequence[tuple[float, int, int]]
) -> dict[str, Any]:
    """The report as kept in the sink: numbers, models, versions, findings, and rows and tokens over time."""
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
    return asdict(report) | {
        "name": plan.spec.name,
        "timezone": plan.spec.schedule.timezone if plan.spec.schedule else "UTC",
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "fingerprint": plan.fingerprint.digest,
        "review": plan.spec.review.path if plan.spec.review else None,
        "tasks": [_task(task) for task in plan.tasks],
        "versions": versions,
        "findings": findings.to_json(),
        "timeline": list(timeline),
    }


def _task(task: TaskPlan) -> dict[str, Any]:
    """A task as in the plan, without the ranges themselves: a few kilobytes for each model."""
    numbers = task.to_json()
    return numbers | {"fixed_ranges": numbers.pop("ranges") is not None}


def _matches(entry: Entry | None, shard: str, plan: Plan) -> bool:
    return entry is not None and entry.shard == shard and entry.fingerprint == plan.fingerprint
