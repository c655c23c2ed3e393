"""A plan: pinned revisions, resolved adapters, the list of shards, and which of them are not in the ledger yet.

A plan can be saved as a JSON file. Any machine can execute any of its shards, any number of times.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import pyarrow as pa

from jobs.models.hub import Pin
from jobs.plan.fingerprint import Fingerprint
from jobs.plan.first import FirstPlan
from jobs.source import Shard, Source
from jobs.source.layouts import Layouts
from jobs.spec import JobSpec, TaskSpec
from transforms import registry
from transforms.errors import RunError
from transforms.reference import ModelRef

# Increased whenever an older version would misread a plan file of this version, or the reverse.
FORMAT = 7


_SHARD = [each.name for each in fields(Shard)]


@dataclass(frozen=True)
class TaskPlan:
    """One task with everything resolved.

    Attributes:
        spec: the job file's entry.
        model: its weights at one commit, or None for a task without a model.
        adapter: the adapter at one commit, or None.
        adapters: name in `adapter_column` -> its adapter at one commit, or None for the model without one; empty if one
            adapter is for all rows.
        dtype: the dtype that the planning machine chose; the job's own setting while no shard is to do.
        engine: likewise.
        device: likewise, such as cpu or cuda; a worker that has no such device refuses the plan. auto while no shard
            is to do.
        was_loaded: an earlier run into the same sink loaded the same models with the same libraries.
        agreement: fraction of a sample of the rows for which int8 and float32 agree; None for other dtypes.
        budget: token positions of a batch that are fastest on the machine that executes the shards; None for the
            default. `max_tokens` of the job is used before it.
        first: the smaller model that answers the rows on which it agrees with this one, or None.
        ranges: for int8 the ranges of the inputs of its linear layers, by layer, which every machine uses; None to find
            them for each batch.
    """

    spec: TaskSpec
    model: Pin | None = None
    adapter: Pin | None = None
    dtype: str = "auto"
    engine: str = "auto"
    device: str = "auto"
    agreement: float | None = None
    was_loaded: bool = False
    adapters: Mapping[str, Pin | None] = field(default_factory=dict)
    budget: int | None = None
    first: FirstPlan | None = None
    ranges: Mapping[str, tuple[float, float]] | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "spec": self.spec.frozen(),
            "model": self.model and self.model.to_json(),
            "adapter": self.adapter and self.adapter.to_json(),
            "dtype": self.dtype,
            "engine": self.engine,
            "device": self.device,
            "agreement": self.agreement,
            "was_loaded": self.was_loaded,
            "budget": self.budget,
            "ranges": None if self.ranges is None else {name: list(ends) for name, ends in self.ranges.items()},
            "adapters": {name: pin and pin.to_json() for name, pin in self.adapters.items()},
            "first": self.first and self.first.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TaskPlan:
        """The inverse of `to_json`."""
        model, adapter = (Pin(**data[key]) if data[key] else None for key in ("model", "adapter"))
        spec = TaskSpec.model_validate(data["spec"])
        keys = ("dtype", "engine", "device", "agreement", "was_loaded", "budget")
        adapters = {name: Pin(**pin) if pin else None for name, pin in data.get("adapters", {}).items()}
        first = FirstPlan.from_json(data["first"]) if data["first"] else None
        ranges = None if data["ranges"] is None else {name: (low, high) for name, (low, high) in data["ranges"].items()}
        more = {key: data[key] for key in keys}
        return cls(spec, model, adapter, adapters=adapters, first=first, ranges=ranges, **more)

    @property
    def max_tokens(self) -> int | None:
        """Token positions of a batch: what the job says, else what is fastest here; None for the default."""
        return self.spec.max_tokens or self.budget

    @property
    def pins(self) -> list[Pin]:
        """The models and adapters that it may compute rows with, each once."""
        first = [] if self.first is None or self.is_left_out else self.first.pins
        return list(dict.fromkeys(pin for pin in (self.model, self.adapter, *self.adapters.values(), *first) if pin))

    @property
    def is_left_out(self) -> bool:
        """Whether `first` was measured and answers no rows."""
        return self.first is not None and self.first.measured is not None and self.first.threshold is None

    @property
    def is_cascade(self) -> bool:
        """Whether a smaller model answers some of the rows."""
        return self.first is not None and self.first.threshold is not None

    @property
    def large(self) -> TaskPlan:
        """The task without `first`: its own model computes every row."""
        if self.first is None:
            return self
        return replace(self, spec=self.spec.model_copy(update={"first": None}), first=None)

    @property
    def small(self) -> TaskPlan | None:
        """The task with the smaller model in place of its own; None without one."""
        first, asked = self.first, self.spec.first
        if first is None or asked is None:
            return None
        keys = {key: getattr(asked, key) for key in ("model", "revision", "adapter", "adapter_revision", "dtype")}
        spec = self.spec.model_copy(update=keys | {"first": None, "trust_remote_code": None})
        return TaskPlan(spec, first.model, first.adapter, first.dtype, first.engine, first.device)

    @property
    def each(self) -> list[TaskPlan]:
        """The task with each of its models alone."""
        return [self.large, *([small] if (small := self.small) is not None and not self.is_left_out else [])]

    @property
    def numbers(self) -> dict[str, int]:
        """Name in `adapter_column` -> number of its adapter in `reference().adapters`, one for the same adapter."""
        numbers: dict[str | None, int] = {}
        return {name: numbers.setdefault(version, len(numbers)) for name, version in self._versions.items()}

    @property
    def identity(self) -> dict[str, Any]:
        """All settings of the task that can change its output, as the job file has them."""
        trusted = self.spec.trust_remote_code
        by_row = {"adapter_column": self.spec.adapter_column, "adapters": self._versions} if self.adapters else {}
        return (
            ({} if trusted is None else {"trust_remote_code": trusted})
            | by_row
            | self._first_identity
            | {
                "task": self.spec.task,
                "version": registry.version(self.spec.task),
                "options": asdict(self.spec.options),
                "model": self.model and self.model.version,
                "adapter": self.adapter and self.adapter.version,
                # The setting `auto` itself: with its value on this machine, another machine would redo the lake.
                "dtype": self.spec.dtype,
                "engine": self.spec.engine,
            }
        )

    def reference(self, weights: bool = True) -> ModelRef:
        """Folders to load from, downloaded if needed."""
        assert self.model is not None
        adapter = self.adapter.folder(weights) if self.adapter else None
        found: dict[int, str | None] = {}
        for name, number in self.numbers.items():
            if number not in found:
                pin = self.adapters[name]
                found[number] = None if pin is None else pin.folder(weights)
        model = self.model.folder(weights)
        rows, spread = tuple(found.values()), self.spec.device_map
        return ModelRef(
            model, adapter, self.dtype, self.device, self.engine, self.model.code, rows, spread, self.ranges
        )

    @property
    def _first_identity(self) -> dict[str, Any]:
        """Nothing without a threshold: then every row has the values of the task's own model."""
        if self.first is None or self.first.measured is None or self.first.threshold is None:
            return {}
        return {"first": [self.first.key, self.first.measured.seed, self.first.threshold, self.first.measured.check]}

    @property
    def _versions(self) -> dict[str, str | None]:
        return {name: None if pin is None else pin.version for name, pin in self.adapters.items()}


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        run_id: sortable by time, unique.
        spec: the job file, overrides included.
        source: what all shards share, revision pinned.
        tasks: the tasks, resolved.
        schema: columns of every part file.
        fingerprint: everything but the source rows that can change an output row.
        prepare_version: hash of the module that `source.prepare` names, or None.
        shards: every shard of the source, in order.
        todo: slot of each shard to do -> the reason.
        removals: deleted source file -> its published rows, which the run removes (always those of a table,
            else with `on_vanished: remove`).
        lease: number of the lease on the sink under which it is executed; 0 before the sink is held.
        copied: slots of finished shards; their files have a new modification time and the same content.
        chunk_rows: rows that are sorted and batched together.
        donors: slots of published entries whose rows the shards to do may take results from.
        left_out: source files without a shard: after `source.limit`, or ruled out by what a table's log says.
        threads: threads of a process that has its machine for itself; None for as many as torch starts.
        layouts: layouts of source files, to be kept by whoever holds the sink; not in the file of the plan.
        attempts: of a run that only tries rejected rows again: slot of each of their shards -> number of the attempt.
        exact: the fingerprint of the same job without `first`, whose rows are as good; None if it is the same.
    """

    run_id: str
    spec: JobSpec
    source: Source
    tasks: tuple[TaskPlan, ...]
    schema: pa.Schema
    fingerprint: Fingerprint
    prepare_version: str | None
    shards: tuple[Shard, ...]
    todo: Mapping[str, str]
    chunk_rows: int
    copied: frozenset[str] = frozenset()
    removals: Mapping[str, int] = field(default_factory=dict)
    lease: int = 0
    donors: tuple[str, ...] = ()
    left_out: frozenset[str] = frozenset()
    attempts: Mapping[str, int] | None = None
    threads: int | None = None
    layouts: Layouts | None = field(default=None, compare=False, repr=False)
    exact: Fingerprint | None = None

    def accepts(self, done: Fingerprint) -> bool:
        """Whether rows that were finished under a fingerprint are not to be computed again."""
        if self.fingerprint.accepts(done, self.spec.sink.on_model_change == "keep"):
            return True
        return self.is_exact(done)

    def is_exact(self, done: Fingerprint) -> bool:
        """Whether the columns of rows that were finished under a fingerprint are as now, or without `first`."""
        return self.exact is not None and self.fingerprint.mixes(done, self.exact)

    def reusable(self, done: Fingerprint) -> dict[str, str]:
        """Columns that can be read from a part file written under another fingerprint, as `Fingerprint.reusable`."""
        exact = {} if self.exact is None else self.exact.reusable(done)
        return exact | self.fingerprint.reusable(done)

    @property
    def shards_todo(self) -> list[Shard]:
        """The shards to execute, in order."""
        return [shard for shard in self.shards if shard.slot in self.todo]

    @property
    def rows_todo(self) -> int | None:
        """Rows to execute; None if unknown before reading."""
        return self._sum([shard.rows if shard.limit is None else shard.limit for shard in self.shards_todo])

    @property
    def rows_expected(self) -> int | None:
        """`rows_todo`, or an estimate of it; the total of the progress display. None if unknown."""
        guessed = (shard.about_rows if shard.rows is None else shard.rows for shard in self.shards_todo)
        return self._sum([g if s.limit is None else s.limit for g, s in zip(guessed, self.shards_todo, strict=True)])

    def _sum(self, rows: list[int | None]) -> int | None:
        known = [count for count in rows if count is not None]
        filtered = self.spec.source.where is not None or self.spec.source.prepare is not None
        return None if filtered or len(known) < len(rows) else sum(known)

    def to_json(self) -> str:
        """The plan as a file: every default is written out, so that it means the same wherever it is executed."""
        data = {
            "format": FORMAT,
            "run_id": self.run_id,
            "spec": self.spec.frozen(),
            "source": self.source.to_json(),
            "tasks": [task.to_json() for task in self.tasks],
            "schema": base64.b64encode(self.schema.serialize()).decode(),
            "fingerprint": self.fingerprint.to_json(),
            "prepare_version": self.prepare_version,
            "todo": dict(self.todo),
            "chunk_rows": self.chunk_rows,
            "copied": sorted(self.copied),
            "removals": dict(self.removals),
            "lease": self.lease,
            "donors": list(self.donors),
            "left_out": sorted(self.left_out),
            "attempts": None if self.attempts is None else dict(self.attempts),
            "threads": self.threads,
            "exact": self.exact and self.exact.to_json(),
        }
        # A shard a line: with an indent, or with `asdict`, 100,000 of them take ten times as long.
        shards = ",\n  ".join(json.dumps({key: getattr(shard, key) for key in _SHARD}) for shard in self.shards)
        head = json.dumps(data, indent=1).removesuffix("\n}")
        return f'{head},\n "shards": [\n  {shards}\n ]\n}}'

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """The inverse of `to_json`.

        Raises:
            RunError: another version of nightscribe made the plan, or it is damaged.
        """
        try:
            data = json.loads(text)
            if data["format"] == FORMAT:
                return cls._from_dict(data)
        except (ValueError, TypeError, KeyError, pa.ArrowException) as error:
            raise RunError("the plan is damaged; plan again") from error
        raise RunError(
            f"the plan has format {data['format']}, and this version of nightscribe reads format {FORMAT}; "
            f"install the same version everywhere, or plan again"
        )

    @classmethod
    def _from_dict(cls, data: dict[str, Any]) -> Plan:
        return cls(
            run_id=data["run_id"],
            spec=JobSpec.model_validate(data["spec"]),
            source=Source.from_json(data["source"]),
            tasks=tuple(TaskPlan.from_json(item) for item in data["tasks"]),
            schema=pa.ipc.read_schema(pa.py_buffer(base64.b64decode(data["schema"]))),
            fingerprint=Fingerprint.from_json(data["fingerprint"]),
            prepare_version=data["prepare_version"],
            shards=tuple(Shard(**item) for item in data["shards"]),
            todo=data["todo"],
            chunk_rows=data["chunk_rows"],
            copied=frozenset(data["copied"]),
            removals=data["removals"],
            lease=data["lease"],
            donors=tuple(data["donors"]),
            left_out=frozenset(data["left_out"]),
            attempts=data["attempts"],
            threads=data["threads"],
            exact=Fingerprint.from_json(data["exact"]) if data["exact"] else None,
        )
