"""Where a row of a sink comes from: its source file, its run, and what computed each of its columns.

The ledger has the source and the run. The plan of the run has the models, adapters and options; if it was deleted, the
footer of the file still has the models with their versions, and the precision.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow.parquet as pq

from jobs.sink.entry import Entry
from jobs.sink.rejects import REJECT_FIELDS
from jobs.spec.task import TaskSpec
from jobs.store import Store, names
from jobs.trace.search import Match

# The name in `adapters` for all other rows; `transforms.by_row` has it too, and imports torch.
DEFAULT = "default"


@dataclass(frozen=True)
class Settings:
    """What computes a column, from the plan of a run.

    Attributes:
        model: `{name, commit, ...}`, or None for a task without one.
        adapter: likewise; with adapters by row that of this row.
        dtype: number format of the computation.
        engine: library that computed it.
        device: device that computed it.
        agreement: for int8 the fraction of a sample with the same result as float32; None for others.
        options: the options of the task, every default written out.
        first: the smaller model that may have answered the row instead: `{model, adapter, dtype, engine, device,
            threshold}`; None if only this one computed rows. Which of both it was is not recorded.
    """

    model: dict[str, Any] | None
    adapter: dict[str, Any] | None
    dtype: str
    engine: str
    device: str
    agreement: float | None
    options: dict[str, Any]
    first: dict[str, Any] | None = None


@dataclass(frozen=True)
class Column:
    """A column that a task added.

    Attributes:
        name: of the column.
        fingerprint: hash of everything that can change its values.
        value: the value of this row; None for a rejected row.
        task: the task; None if the plan is gone and the file is of version 0.1.0.
        settings: what computed it; None if the plan of the run is gone.
        footer: what the file itself says about it.
        taken_over: `all` if the column was taken from older files for every row of the shard, under the same
            fingerprint; `some` if that may be so for some of its rows; `none` otherwise. Which run computed such a
            value is not recorded.
    """

    name: str
    fingerprint: str
    value: Any
    task: str | None
    settings: Settings | None
    footer: str | None
    taken_over: str


@dataclass(frozen=True)
class Rejected:
    """Why a row was rejected.

    Attributes:
        task: the task that it broke, or `source` if it could not be read.
        error_type: class of the error.
        message: what was wrong.
        record: its number in the source file, counted from 1; None if unknown.
    """

    task: str | None
    error_type: str | None
    message: str | None
    record: int | None


@dataclass(frozen=True)
class Origin:
    """One row, and where it comes from.

    Attributes:
        row: its values, without those of the columns of tasks.
        source: source file, below the root of its source.
        version: version of that file.
        start: where the shard's range of it begins: a row group, a record batch or a byte.
        stop: one past its end; 0 is the end of a file that cannot be split.
        shard_rows: rows of that range that were read.
        rows_reused: rows of the shard of which at least one result was taken over from an older file.
        file: the file of the sink that has the row.
        file_row: the row's number there, counted from 0.
        run_id: the run that wrote it.
        time: when, ISO 8601 in UTC.
        columns: what the tasks added.
        rejected: why the row was rejected; None for others.
    """

    row: dict[str, Any]
    source: str
    version: str
    start: int
    stop: int
    shard_rows: int
    rows_reused: int
    file: str
    file_row: int
    run_id: str
    time: str
    columns: tuple[Column, ...]
    rejected: Rejected | None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False, default=str)


def origins(store: Store) -> Callable[[Match], Origin | None]:
    """A function that gives the origin of a row; it reads the plan of a run once.

    Args:
        store: the sink's.

    Returns:
        The function; it returns None for a row of a file that no entry of the ledger names any more.
    """
    plan_of = functools.cache(lambda run_id: _tasks(store, run_id))

    def of(match: Match) -> Origin | None:
        entry = match.file.entry_of(match.row)
        return None if entry is None else _origin(match, entry, plan_of(entry.run_id))

    return of


def _origin(match: Match, entry: Entry, tasks: Mapping[str, Any]) -> Origin:
    row, footer = _row(match)
    row |= {name: value for name, value in match.file.folders.items() if name not in row}
    rejected = None
    if match.file.rejected:
        # Files of version 0.1.0 have the first of these columns only; a prefix avoids names of the source.
        about = {field.name: _last(row, field.name) for field in REJECT_FIELDS}
        values = {name: row.pop(found) for name, found in about.items() if found is not None}
        rejected = Rejected(values.get("_task"), values.get("_error_type"), values.get("_message"), values.get("_row"))
    columns = tuple(
        _column(entry, i, name, row.pop(name, None), tasks.get(name), footer, row)
        for i, (name, _) in enumerate(entry.fingerprint.tasks)
    )
    return Origin(
        row,
        source=entry.key,
        version=entry.version,
        start=entry.start,
        stop=entry.stop,
        shard_rows=entry.rows_in,
        rows_reused=entry.rows_reused,
        file=match.file.name,
        file_row=match.row,
        run_id=entry.run_id,
        time=entry.time,
        columns=columns,
        rejected=rejected,
    )


def _column(
    entry: Entry,
    i: int,
    name: str,
    value: Any,
    task: Mapping[str, Any] | None,
    footer: Mapping[str, str],
    row: Mapping[str, Any],
) -> Column:
    said = footer.get(f"nightscribe.tasks.{i}")
    return Column(
        name,
        fingerprint=entry.fingerprint.tasks[i][1],
        value=value,
        task=task["spec"]["task"] if task is not None else said.split(" + ")[0] if said else None,
        settings=None if task is None else _settings(task, row),
        footer=said,
        taken_over=_taken_over(entry, name),
    )


def _taken_over(entry: Entry, name: str) -> str:
    every_row = entry.rows_reused == entry.rows_out and len(entry.fingerprint.tasks) == 1
    return "none" if not entry.rows_reused else "all" if name in entry.reused or every_row else "some"


def _settings(task: Mapping[str, Any], row: Mapping[str, Any]) -> Settings:
    spec, by_row = task["spec"], task.get("adapters") or {}
    adapter = task["adapter"]
    if by_row:
        key = row.get(spec["adapter_column"])
        # As Arrow casts a boolean to a text.
        key = str(key).lower() if isinstance(key, bool) else str(key)
        adapter = by_row.get(key, by_row.get(DEFAULT))
    return Settings(
        model=task["model"],
        adapter=adapter,
        dtype=task["dtype"],
        engine=task["engine"],
        device=task["device"],
        agreement=task["agreement"],
        options={key: value for key, value in spec.items() if key not in TaskSpec.model_fields},
        first=_first(task),
    )


def _first(task: Mapping[str, Any]) -> dict[str, Any] | None:
    # Plans of earlier versions have no smaller model.
    first = task.get("first") or {}
    threshold = (first.get("measured") or {}).get("threshold")
    if threshold is None:
        return None
    return {key: first[key] for key in ("model", "adapter", "dtype", "engine", "device")} | {"threshold": threshold}


def _tasks(store: Store, run_id: str) -> dict[str, Any]:
    """Column -> the task of a run's plan; empty if the plan is gone, damaged or of another version."""
    try:
        plan = json.loads(store.get(f"{names.PLANS}/{run_id}.json"))
        return {task["spec"]["into"]: task for task in plan["tasks"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return {}


def _row(match: Match) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of a row, and the footer of its file."""
    with match.file.open() as stream, pq.ParquetFile(stream) as parquet:
        left = match.row
        for group in range(parquet.num_row_groups):
            rows = parquet.metadata.row_group(group).num_rows
            if left < rows:
                break
            left -= rows
        (values,) = parquet.read_row_group(group).slice(left, 1).to_pylist()
        metadata = parquet.metadata.metadata or {}
    return values, {key.decode(): text.decode("utf-8", "replace") for key, text in metadata.items()}


def _last(row: Mapping[str, Any], ending: str) -> str | None:
    return next((name for name in reversed(list(row)) if name.endswith(ending)), None)
