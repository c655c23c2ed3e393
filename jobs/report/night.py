"""The report of a night: what all its attempts did together, written whether or not the last attempt succeeded.

A night begins where the last finished run ended. So a run that continues after a kill, a stop or too many rejects also
reports the rows of the earlier attempts.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jobs.audit import record as audits
from jobs.estimate import outcome
from jobs.hub import session
from jobs.parts import timeline as timelines
from jobs.plan.again import given_up
from jobs.report import FINISHED, HELD, STOPPED, Report, Status, details, history
from jobs.report import first as of_first
from jobs.report import truncated as of_truncated
from jobs.report.observer import look
from jobs.store import requests
from transforms.errors import HeldBack, NightscribeError, Stopped

if TYPE_CHECKING:
    from jobs.plan import Plan
    from jobs.sink.entry import Entry
    from jobs.sink.publish import Publication
    from jobs.store import Store

LOG = logging.getLogger(__name__)

Sample = tuple[float, int, int]


@dataclass(frozen=True)
class Asked:
    """Requests of a run.

    Attributes:
        hub: to the Hub.
        stores: to object stores.
    """

    hub: session.Counted = field(default_factory=session.Counted)
    stores: requests.Counted = field(default_factory=requests.Counted)


NOTHING = Asked()


@dataclass(frozen=True)
class Attempt:
    """One run of a night.

    Attributes:
        run_id: names it.
        seconds: how long it took; until its last finished shard if it was killed.
        status: how it ended.
        rows_in: rows of the shards that it finished, if they are still in the ledger.
        tokens: real tokens computed for them.
    """

    run_id: str
    seconds: float
    status: Status | str
    rows_in: int = 0
    tokens: int = 0


def record(
    plan: Plan,
    store: Store,
    entries: Mapping[str, Entry],
    timeline: Sequence[Sample],
    removed: Iterable[Entry] = (),
    drawn: int = 0,
    asked: Asked = NOTHING,
    publication: Publication | None = None,
    error: BaseException | None = None,
    splits: Sequence[str] = (),
    batches: Sequence[str] = (),
) -> Report:
    """Count what the night has done so far and keep the report of it in the sink.

    Args:
        plan: the run.
        store: its sink.
        entries: the ledger by slot, staged entries included, without what is removed.
        timeline: (seconds, rows, tokens) of this attempt.
        removed: entries that this run removes from the sink, together with their rows.
        drawn: rows drawn for review.
        asked: requests of this run to the Hub and to object stores.
        publication: what was published to a dataset of the Hub; None for other sinks.
        error: the error that ended the run; None for a run that finished.
        splits: how this machine was divided between processes, the last time it executed shards last.
        batches: how large the batches of each task were, and why.
    """
    status = _status(error)
    earlier = history.unfinished(store, plan.run_id)
    since = history.last_finished(store, plan.run_id)
    own = [entry for entry in entries.values() if since is None or entry.run_id > since]
    attempts = _attempts(plan.run_id, status, own, earlier)
    keys = {shard.key for shard in plan.shards}
    divided = timelines.read(store, plan.run_id) if plan.spec.runner.fans_out else None
    limited = plan.spec.source.limit is not None
    report = Report(
        rows_in=sum(entry.rows_in for entry in own),
        rows_out=sum(entry.rows_out for entry in own),
        rows_rejected=sum(entry.rows_rejected for entry in own),
        shards=len(plan.shards),
        shards_skipped=len(plan.shards) - len(plan.todo),
        tokens=sum(entry.tokens for entry in own),
        padded_tokens=sum(entry.padded_tokens for entry in own),
        seconds=round(sum(attempt.seconds for attempt in attempts), 3),
        run_id=plan.run_id,
        output=plan.spec.sink.path,
        status=status,
        attempts=len(attempts),
        shards_done=len(own),
        rows_reused=sum(entry.rows_reused for entry in own),
        rows_given_up=0 if plan.attempts is None else given_up(plan, entries.values()),
        rows_removed=sum(entry.rows_out for entry in removed if entry.key not in keys),
        # A limited run does not list every file, so it does not know which are gone.
        rows_vanished=0 if limited else sum(entry.rows_out for entry in entries.values() if entry.key not in keys),
        rows_drawn=drawn,
        hub_requests=asked.hub.requests,
        hub_bytes=asked.hub.received,
        store_requests=asked.stores,
        dataset=None if plan.spec.sink.dataset is None else plan.spec.sink.shown,
        commit=None if publication is None else publication.commit,
        uploaded_bytes=0 if publication is None else publication.uploaded_bytes,
        parts=None if divided is None else divided.numbers(),
        split=splits[-1] if splits else "",
        batches="; ".join(batches),
        first=of_first.numbers(plan, own, store),
        truncated=of_truncated.numbers(plan, own),
    )
    kept = details(plan, report, look(plan, own, store), _joined(timeline, attempts, earlier))
    kept |= {"attempts_made": [asdict(attempt) for attempt in attempts]}
    kept |= {"message": str(error)} if error is not None else {}
    if status == FINISHED and (compared := outcome.compare(plan, report, [entry.shard for entry in own])):
        kept |= {"estimate": compared}
    kept |= {"audit": audit.to_json()} if (audit := audits.read(store, plan.run_id)) is not None else {}
    store.put(f"{history.FOLDER}/{plan.run_id}.json", json.dumps(kept, indent=1).encode())
    LOG.info("run %s %s: %d rows out, %d rejected", plan.run_id, status, report.rows_out, report.rows_rejected)
    return report


def record_unfinished(
    plan: Plan,
    store: Store,
    entries: Mapping[str, Entry],
    timeline: Sequence[Sample],
    asked: Asked,
    error: BaseException,
    splits: Sequence[str] = (),
    batches: Sequence[str] = (),
) -> None:
    """Keep the report of a run that did not finish; if that fails too, the first error is still the one reported."""
    try:
        record(plan, store, entries, timeline, asked=asked, error=error, splits=splits, batches=batches)
    except (OSError, NightscribeError) as second:
        LOG.warning("the report of run %s could not be written: %s", plan.run_id, second)


def _status(error: BaseException | None) -> Status:
    if error is None:
        return FINISHED
    return STOPPED if isinstance(error, Stopped) else HELD if isinstance(error, HeldBack) else "failed"


def _attempts(run_id: str, status: Status, own: Sequence[Entry], earlier: Sequence[history.Kept]) -> list[Attempt]:
    """Every attempt of the night, in order: this one, those that left a report, and those that left only entries."""
    known: dict[str, tuple[float, str]] = {run_id: (seconds_of(run_id, datetime.now(UTC)), status)}
    for kept in earlier:
        known.setdefault(kept.run_id, (_own_seconds(kept), str(kept.numbers.get("status", "failed"))))
    for entry in own:
        if entry.run_id not in known or known[entry.run_id][1] == "killed":
            until = max(
                known.get(entry.run_id, (0.0,))[0], seconds_of(entry.run_id, datetime.fromisoformat(entry.time))
            )
            known[entry.run_id] = (until, "killed")
    made = []
    for name in sorted(known):
        entries = [entry for entry in own if entry.run_id == name]
        rows, tokens = sum(entry.rows_in for entry in entries), sum(entry.tokens for entry in entries)
        made.append(Attempt(name, round(known[name][0], 3), known[name][1], rows, tokens))
    return made


def _own_seconds(kept: history.Kept) -> float:
    """How long the run of a report took, without the attempts before it."""
    made: list[dict[str, Any]] = kept.numbers.get("attempts_made", [])
    return next((float(each["seconds"]) for each in made if each["run_id"] == kept.run_id), 0.0)


def seconds_of(run_id: str, until: datetime) -> float:
    """Seconds from the time in a run's name, when it was planned, to `until`."""
    try:
        started = datetime.strptime(run_id.split("-")[0], "%Y%m%dT%H%M%S%f").replace(tzinfo=UTC)
    except ValueError:
        return 0.0
    return max(0.0, (until - started).total_seconds())


def _joined(timeline: Sequence[Sample], attempts: Sequence[Attempt], earlier: Sequence[history.Kept]) -> list[Sample]:
    """The timelines of all attempts, joined; an attempt without a timeline is represented by its totals."""
    before = attempts[:-1]
    seconds = sum(attempt.seconds for attempt in before)
    rows, tokens = sum(attempt.rows_in for attempt in before), sum(attempt.tokens for attempt in before)
    last = earlier[-1].timeline if earlier else []
    own = [(round(s + seconds, 2), r + rows, t + tokens) for s, r, t in timeline]
    return [*([sample for sample in last if sample[0] <= seconds] or ([(0.0, 0, 0)] if before else [])), *own]
