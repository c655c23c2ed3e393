"""A plan: every revision pinned, every adapter resolved, the list of shards, minus what the ledger has.

A plan is a plain file. Executing takes a plan and some of its shards, anywhere, any number of times.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa

from jobs.models.hub import Pin
from jobs.plan.fingerprint import Fingerprint
from jobs.source import Shard, Source
from jobs.spec import JobSpec, TaskSpec
from transforms import registry
from transforms.errors import RunError
from transforms.reference import ModelRef

# Raised whenever a plan file would be read wrongly by an older version, or an older plan by this one.
FORMAT = 3


@dataclass(frozen=True)
class TaskPlan:
    """One task with everything resolved.

    Attributes:
        spec: the job file's entry.
        model: its weights at one commit, or None for a task without a model.
        adapter: the adapter at one commit, or None.
        dtype: what is computed where the plan was made; never auto.
        engine: likewise.
        device: likewise, such as cpu or cuda; a worker that has no such device refuses the plan.
        agreement: of dtype int8 with float32 on a sample of the rows, from 0 to 1; None for other dtypes.
    """

    spec: TaskSpec
    model: Pin | None = None
    adapter: Pin | None = None
    dtype: str = "float32"
    engine: str = "torch"
    device: str = "cpu"
    agreement: float | None = None

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
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TaskPlan:
        """The inverse of `to_json`."""
        model, adapter = (Pin(**data[key]) if data[key] else None for key in ("model", "adapter"))
        spec = TaskSpec.model_validate(data["spec"])
        return cls(spec, model, adapter, data["dtype"], data["engine"], data["device"], data["agreement"])

    @property
    def identity(self) -> dict[str, Any]:
        """Everything of its own that can change what the task gives, as the job file asks for it."""
        return {
            "task": self.spec.task,
            "version": registry.version(self.spec.task),
            "options": asdict(self.spec.options),
            "model": self.model and self.model.commit,
            "adapter": self.adapter and self.adapter.commit,
            # Not what `auto` is on this machine: another one would redo the lake.
            "dtype": self.spec.dtype,
            "engine": self.spec.engine,
        }

    def reference(self, weights: bool = True) -> ModelRef:
        """Folders to load from, downloaded if need be."""
        assert self.model is not None
        adapter = self.adapter.folder(weights) if self.adapter else None
        return ModelRef(self.model.folder(weights), adapter, self.dtype, self.device, self.engine)


@dataclass(frozen=True)
class Plan:
    """A run as a plain file.

    Attributes:
        run_id: sortable by time, unique.
        spec: the job file, overrides included.
        source: what all shards share, revision pinned.
        tasks: the tasks, resolved.
        schema: columns of every part file.
        fingerprint: everything but the source rows that can change an output row.
        prepare_version: hash of the module that `source.prepare` names, or None.
        shards: every shard of the source, in order.
        todo: slot of each shard that is to do -> why.
        removals: source file that is gone -> published rows that go with it (`on_vanished: remove`).
        lease: number of the lease on the sink under which it is executed; 0 before the sink is held.
        copied: slots of shards that are done, whose file has another time and the same content.
        chunk_rows: rows that are sorted and batched together.
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

    @property
    def shards_todo(self) -> list[Shard]:
        """The shards to execute, in order."""
        return [shard for shard in self.shards if shard.slot in self.todo]

    @property
    def rows_todo(self) -> int | None:
        """Rows to execute; None where only reading would tell."""
        return self._sum([shard.rows if shard.limit is None else shard.limit for shard in self.shards_todo])

    @property
    def rows_expected(self) -> int | None:
        """`rows_todo`, estimated where only reading would tell: what progress is measured by. None if unknown."""
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
            "shards": [asdict(shard) for shard in self.shards],
            "todo": dict(self.todo),
            "chunk_rows": self.chunk_rows,
            "copied": sorted(self.copied),
            "removals": dict(self.removals),
            "lease": self.lease,
        }
        return json.dumps(data, indent=1)

    @classmethod
    def from_json(cls, text: str | bytes) -> Plan:
        """The inverse of `to_json`.

        Raises:
            RunError: another version of nightscribe made the plan.
        """
        data = json.loads(text)
        if data.get("format") != FORMAT:
            raise RunError(
                f"the plan has format {data.get('format')}, and this version of nightscribe reads format {FORMAT}; "
                f"install the same version everywhere, or plan again"
            )
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
        )
