"""The reports that a sink keeps, one JSON file per run, and the earlier runs of a run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pydantic import TypeAdapter

from jobs.audit.record import Audit
from jobs.parts import timeline
from jobs.parts.timeline import Timeline
from jobs.report import FINISHED, HELD, Report
from jobs.report.drift import NIGHTS
from jobs.report.findings import Findings
from jobs.store import Store, names
from transforms.errors import SpecError

FOLDER = names.REPORTS
LATEST = "latest"


class DamagedReport(SpecError):
    """The file of a report that is there cannot be read."""


@dataclass(frozen=True)
class Kept:
    """A run as kept in its sink.

    Attributes:
        numbers: the report's numbers, the job's name, tasks, versions and the time; `jobs.report.details` says which.
        findings: histograms of the rows that the run wrote.
        timeline: (seconds, rows, tokens) since the start.
        parts: who did what when, if the run was divided into parts.
    """

    numbers: dict[str, Any]
    findings: Findings
    timeline: Sequence[tuple[float, int, int]]
    parts: Timeline | None = None

    @property
    def run_id(self) -> str:
        """Names the run; sortable by time."""
        return str(self.numbers["run_id"])

    @property
    def finished(self) -> bool:
        """Whether it ended well; only such runs left a report before version 0.2."""
        return bool(self.numbers.get("status", FINISHED) == FINISHED)


@dataclass(frozen=True)
class _Pin:
    name: str
    commit: str


@dataclass(frozen=True)
class _Task:
    spec: dict[str, Any]
    dtype: str
    model: _Pin | None
    adapter: _Pin | None


@dataclass(frozen=True)
class _Attempt:
    run_id: str
    seconds: float
    status: str


@dataclass(frozen=True)
class _Compared:
    what: str
    estimated: float
    measured: float


@dataclass(frozen=True)
class _Estimate:
    machine: str
    sampled: int
    numbers: list[_Compared]


@dataclass(frozen=True, kw_only=True)
class _Numbers(Report):
    """The keys of `Kept.numbers` that a report is made of. Version 0.1.0 did not write those with a default."""

    name: str
    tasks: list[_Task]
    timezone: str = "UTC"
    finished: datetime | None = None
    message: str | None = None
    audit: Audit | None = None
    attempts_made: list[_Attempt] = field(default_factory=list)
    estimate: _Estimate | None = None


_NUMBERS = TypeAdapter(_Numbers)
_TIMELINE = TypeAdapter(list[tuple[float, int, int]])


def read(store: Store, run_id: str) -> Kept:
    """Read the report of a run.

    Args:
        store: the sink.
        run_id: a run, or `latest` for the last one that had or removed any rows, or was held back.

    Raises:
        SpecError: the sink has no report of that run, or a damaged one.
    """
    known = run_ids(store)
    if run_id == LATEST and known:
        return _latest(store, known)
    if run_id not in known:
        some = f"runs: {', '.join(known[-5:])}" if known else "no run has written to it yet"
        raise SpecError(f"run {run_id!r} has no report in {store.url!r}; {some}")
    name = f"{FOLDER}/{run_id}.json"
    try:
        kept = _parsed(store.get(name))
    except ValueError as error:
        raise DamagedReport(f"{store.url}/{name} is damaged; restore the file, or delete it") from error
    # In a file of its own, because it has a line for each shard.
    return replace(kept, parts=timeline.read(store, run_id)) if kept.numbers.get("parts") else kept


def _parsed(content: bytes) -> Kept:
    data = json.loads(content)
    _NUMBERS.validate_python(data)
    # Reports of version 0.1.0 have neither key.
    findings, timeline = data.pop("findings", {}), data.pop("timeline", [])
    return Kept(data, Findings.from_json(findings), _TIMELINE.validate_python(timeline))


def before(store: Store, run_id: str, nights: int = NIGHTS) -> list[Kept]:
    """The last finished runs before one that enriched any rows, oldest first."""
    found: list[Kept] = []
    for earlier in reversed([name for name in run_ids(store) if name < run_id]):
        if len(found) == nights:
            break
        kept = _read_if_sound(store, earlier)
        if kept is not None and kept.finished and kept.findings.rows:
            found.insert(0, kept)
    return found


def last_finished(store: Store, run_id: str) -> str | None:
    """The last run before one that finished, also one of another machine that published to the same dataset."""
    earlier = (name for name in reversed(run_ids(store)) if name < run_id)
    found = next((name for name in earlier if (kept := _read_if_sound(store, name)) and kept.finished), None)
    try:
        restored = str(json.loads(store.get(names.RESTORED))["run_id"])
    except FileNotFoundError:
        return found
    return restored if found is None else max(found, restored)


def unfinished(store: Store, run_id: str) -> list[Kept]:
    """The runs before one that left a report and did not finish, back to the last one that did; oldest first."""
    found: list[Kept] = []
    for earlier in reversed([name for name in run_ids(store) if name < run_id]):
        if (kept := _read_if_sound(store, earlier)) is None:
            continue
        if kept.finished:
            break
        found.insert(0, kept)
    return found


def _latest(store: Store, known: Sequence[str]) -> Kept:
    found = (_read_if_sound(store, name) for name in reversed(known))
    return next((kept for kept in found if kept and _tells(kept)), None) or read(store, known[-1])


def _tells(kept: Kept) -> bool:
    """Whether a run has done something that a person may want to see."""
    return bool(kept.numbers.get("rows_in") or kept.numbers.get("rows_removed") or kept.numbers.get("status") == HELD)


def _read_if_sound(store: Store, run_id: str) -> Kept | None:
    """An earlier report; None if its file is damaged, which must not stop a run that is compared with it."""
    try:
        return read(store, run_id)
    except DamagedReport:
        return None


def run_ids(store: Store) -> list[str]:
    """Every run that has a report, oldest first."""
    return [name.rsplit("/", 1)[-1].removesuffix(".json") for name in store.names(FOLDER) if name.endswith(".json")]
