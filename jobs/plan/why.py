"""Why each shard of a plan is to do: what changed since it was done, both sides of it where they are known."""

from __future__ import annotations

import base64
import functools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from jobs.plan import Plan
from jobs.plan.fingerprint import OTHER_COLUMNS
from jobs.plan.todo import CHANGED, LIMITED, REST
from jobs.report.shown import CHARACTERS, count, cut
from jobs.sink import Entry
from jobs.sink.folder import FolderSink
from jobs.source import NOT_IDENTITY, Shard
from jobs.source.shard import shown_range
from jobs.store import Store, names

# Keys of a task that cannot change its output, or whose meaning is in the pinned versions.
_NO_SETTINGS = {
    *("into", "model", "revision", "adapter", "adapter_revision", "adapters"),
    *("device", "device_map", "max_tokens", "min_agreement"),
}

# Digits of a time in nanoseconds, as in the version of a local file.
_NANOSECONDS = 19


@dataclass(frozen=True)
class Why:
    """The reason of one shard.

    Attributes:
        file: its source file, below the root of the source.
        start: where its range begins.
        stop: where it ends; 0 is the end of a file that cannot be split.
        part: the range for a person, such as `row groups 0 to 3`; empty for a whole file.
        reason: the kind of reason, as in the plan.
        text: the reason with what it was and what it is now.
    """

    file: str
    start: int
    stop: int
    part: str
    reason: str
    text: str

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)


def of(plan: Plan, sink: FolderSink) -> list[Why]:
    """The reasons of the shards that are to do, by file and range.

    What a model, an adapter or an option was is read from the plan of the run that did the shard, if it is still there.
    """
    ledger = sink.entries(plan)
    by_file: dict[str, list[Entry]] = {}
    for entry in ledger.values():
        by_file.setdefault(entry.key, []).append(entry)
    shards = Counter(shard.key for shard in plan.shards)
    earlier = _Earlier(plan, sink.store)
    found = []
    for shard in sorted(plan.shards_todo, key=lambda shard: (shard.key, shard.start)):
        reason = plan.todo[shard.slot]
        text = _text(plan, shard, reason, ledger.get(shard.slot), by_file.get(shard.key, []), earlier)
        part = shown_range(shard.format, shard.start, shard.stop) if shards[shard.key] > 1 else ""
        found.append(Why(shard.key, shard.start, shard.stop, part, reason, text))
    return found


def table(reasons: Sequence[Why]) -> str:
    """One line for each shard: its file, its range, the reason."""
    cells = [(why.file, *([why.part] if any(each.part for each in reasons) else []), why.text) for why in reasons]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)][:-1]
    return "\n".join(
        "  ".join([*(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)), row[-1]]) for row in cells
    )


def _text(plan: Plan, shard: Shard, reason: str, entry: Entry | None, of_file: list[Entry], earlier: _Earlier) -> str:
    if reason == REST:
        done = sum(each.version == shard.version for each in of_file)
        return f"{reason}, of which {count(done, 'shard')} {'is' if done == 1 else 'are'} done"
    before = entry or next(iter(of_file), None)
    if before is None:
        return reason
    if reason == CHANGED:
        return f"{reason}: {' -> '.join(_versions(before.version, shard.version))}"
    if reason == LIMITED:
        return f"{reason}: {_limit(before.limit)} -> {_limit(shard.limit)}"
    found = earlier.changes(before.run_id, plan.fingerprint.difference(before.fingerprint))
    return reason + (f": {found}" if found else "")


def _limit(limit: int | None) -> str:
    return "all rows" if limit is None else f"the first {count(limit, 'row')}"


def _versions(before: str, now: str) -> tuple[str, str]:
    shown = _version(before), _version(now)
    return shown if shown[0] != shown[1] else (f"version {before}", f"version {now}")


def _version(version: str) -> str:
    """The version of a file for a person: size and time of a local one, else as its store has it."""
    size, _, time = version.partition("-")
    if not (size.isdigit() and time.isdigit() and len(time) == _NANOSECONDS):
        return f"version {version}"
    return f"{int(size):,} bytes of {datetime.fromtimestamp(int(time) / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"


class _Earlier:
    """What the plans of earlier runs have otherwise than a plan; each is read once.

    Args:
        plan: the plan.
        store: the sink's, which keeps the plans.
    """

    def __init__(self, plan: Plan, store: Store):
        self.plan, self.store = plan, store
        self.changes = functools.cache(self._changes)

    def _changes(self, run_id: str, reason: str) -> str:
        """What is otherwise than in a run, such as `sentiment: dtype auto -> int8`; empty if it is unknown."""
        try:
            before = json.loads(self.store.get(f"{names.PLANS}/{run_id}.json"))
            found = [*_of_source(before, self.plan), *_of_tasks(before, self.plan)]
            if reason == OTHER_COLUMNS:
                found += _of_columns(before, self.plan.schema)
            elif self.plan.spec.sink.on_model_change == "keep":
                found += _of_types(before, self.plan)
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
            # Deleted, damaged, or written by an earlier version.
            return ""
        columns = {into for into, _ in found}
        return "; ".join(f"{into}: {change}" if into and len(columns) > 1 else change for into, change in found)


def _of_source(before: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, str]]:
    source = plan.spec.frozen()["source"]
    old = before["spec"]["source"]
    for change in _changed(_without(old, NOT_IDENTITY), _without(source, NOT_IDENTITY), "source."):
        yield "", change
    if plan.prepare_version and before["prepare_version"] not in (None, plan.prepare_version):
        yield "", "the code of source.prepare"


def _of_columns(before: Mapping[str, Any], now: pa.Schema) -> Iterator[tuple[str, str]]:
    """Columns that are new, left out, or of another type; that they have another order if nothing else changed."""
    old = _schema(before)
    changed = [name for name in now.names if name in old.names and old.field(name).type != now.field(name).type]
    found = [f"{name} ({now.field(name).type}) is new" for name in now.names if name not in old.names]
    found += [f"{name} is left out" for name in old.names if name not in now.names]
    found += [f"{name} {old.field(name).type} -> {now.field(name).type}" for name in changed]
    yield from (("", each) for each in found or ["in another order"])


def _of_types(before: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, str]]:
    """Columns of tasks that cannot be kept with `on_model_change: keep`."""
    old, now = _schema(before), plan.schema
    for into in (task.spec.into for task in plan.tasks if task.spec.into in old.names):
        if old.field(into).type != now.field(into).type:
            yield into, f"{old.field(into).type} -> {now.field(into).type}, and a column of another type is not kept"


def _schema(plan: Mapping[str, Any]) -> pa.Schema:
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(plan["schema"])))


def _of_tasks(before: Mapping[str, Any], plan: Plan) -> Iterator[tuple[str, str]]:
    """(column, change) of every task that both plans have."""
    tasks = {task["spec"]["into"]: task for task in before["tasks"]}
    # As it is read from a file: a tuple is a list there.
    for task in json.loads(json.dumps([task.to_json() for task in plan.tasks])):
        into = task["spec"]["into"]
        if (old := tasks.get(into)) is not None:
            yield from ((into, change) for change in _of_task(old, task))


def _of_task(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    for what in ("model", "adapter"):
        old, new = before[what], now[what]
        if (old and (old["name"], old["commit"])) != (new and (new["name"], new["commit"])):
            yield f"{what} {_pin(old)} -> {_pin(new)}"
    old_by_row, by_row = before.get("adapters", {}), now.get("adapters", {})
    for name in {**old_by_row, **by_row}:
        if old_by_row.get(name) != by_row.get(name) or (name in old_by_row) != (name in by_row):
            yield f"adapters.{name} {_pin(old_by_row.get(name))} -> {_pin(by_row.get(name))}"
    yield from _changed(_without(before["spec"], _NO_SETTINGS), _without(now["spec"], _NO_SETTINGS), "")


def _pin(pin: Mapping[str, Any] | None) -> str:
    if pin is None:
        return "none"
    name, commit = str(pin["name"]), str(pin["commit"])[:12]
    return f"{name} ({commit})" if "@" in name else f"{name}@{commit}"


def _without(content: Mapping[str, Any], keys: set[str]) -> dict[str, Any]:
    return {key: value for key, value in content.items() if key not in keys}


def _changed(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for key in {**before, **now}:
        if before.get(key) != now.get(key):
            yield f"{prefix}{key} {_value(before.get(key))} -> {_value(now.get(key))}"


def _value(value: Any) -> str:
    return "none" if value is None else cut(value if isinstance(value, str) else json.dumps(value), CHARACTERS)
