"""A plan: pinned revisions, resolved adapters, the list of shards, and which of them are not in the ledger yet.

A plan can be saved as a JSON file. Any machine can execute any of its shards, any number of times.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import pyarrow as pa

from jobs.plan.fingerprint import Fingerprint
from jobs.plan.task import TaskPlan
from jobs.source import Shard, Source
from jobs.source.layouts import Layouts
from jobs.spec import JobSpec
from transforms.errors import RunError

# Increased whenever an older version would misread a plan file of this version, or the reverse.
FORMAT = 7

_SHARD = [each.name for each in fields(Shard)]


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
