"""The runs of a sink that used a version, and how many rows of the sink are theirs."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow.parquet as pq

from jobs.registry.version import Version
from jobs.sink.ledger import Ledger
from jobs.store import Store, names
from transforms.errors import SpecError, UnreadableSink


@dataclass(frozen=True)
class Use:
    """A run that used a version.

    Attributes:
        run_id: the run; it begins with its time in UTC.
        rows: rows of the sink that it wrote and no later run replaced.
    """

    run_id: str
    rows: int


def open_sink(path: str, key: str = "--sink") -> Store:
    """The store of a sink.

    Raises:
        SpecError: no job has written there.
    """
    store = Store(path, key)
    if not store.exists(names.OWNER) and not store.names(names.LEDGER):
        raise SpecError(f"{key} {path!r} is no sink: no job has written to it; give the sink.path of a job")
    return store


def runs_with(sink: Store, version: Version) -> list[Use]:
    """Runs that used a version as a model or an adapter, oldest first.

    The plan of a run names what it used; where a plan was deleted, the footers of the part files do.

    Raises:
        UnreadableSink: a plan of the sink is damaged.
    """
    plans = {name.rsplit("/", 1)[-1].removesuffix(".json"): name for name in sink.names(names.PLANS)}
    rows: Counter[str] = Counter()
    unplanned: Counter[str] = Counter()
    for entry in Ledger(sink, names.LEDGER).read().values():
        rows[entry.run_id] += entry.rows_out
        if entry.run_id not in plans and any(version.content in text for text in _footer(sink, entry.part)):
            unplanned[entry.run_id] += entry.rows_out
    planned = {run: rows[run] for run, name in plans.items() if version.content in _commits(sink, name)}
    return [Use(run, count) for run, count in sorted((planned | unplanned).items())]


def _commits(sink: Store, plan: str) -> list[str]:
    """The commits of all models and adapters of a plan."""
    try:
        tasks = json.loads(sink.get(plan))["tasks"]
        # Plans of earlier versions have no adapters by row, and no smaller model.
        pins = [pin for task in tasks for pin in (task["model"], task["adapter"], *task.get("adapters", {}).values())]
        firsts = [first for task in tasks if (first := task.get("first"))]
        firsts = [first for first in firsts if (first["measured"] or {}).get("threshold") is not None]
        pins += [pin for first in firsts for pin in (first["model"], first["adapter"])]
        return [pin["commit"] for pin in pins if pin]
    except (ValueError, KeyError, TypeError) as error:
        raise UnreadableSink(
            f"{sink.url}/{plan} is damaged ({error}); restore it, or delete it: part files name their models too"
        ) from error


def _footer(sink: Store, part: str) -> Iterator[str]:
    """What a part file says about the models that computed it."""
    with sink.open(part) as stream:
        metadata = pq.read_schema(stream).metadata or {}
    for key, value in metadata.items():
        if key.startswith(b"nightscribe.tasks."):
            yield value.decode()
