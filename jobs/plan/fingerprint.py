"""A fingerprint: everything that the values of a finished shard depend on, except its source rows.

It has separate parts, so that a job with a new or changed task computes only the column of that task and reads the
others from the existing part file. It holds the settings of the job, not the choices of a machine (`dtype: auto` stays
auto), so that another machine redoes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
from pydantic import TypeAdapter

from transforms.options import column_of

OTHER_COLUMNS = "other columns"


@dataclass(frozen=True)
class Fingerprint:
    """Hashes of everything but the source rows that can change an output row.

    Attributes:
        columns: names and types of the columns of a part file.
        rows: which rows of the source are read and how (where, prepare, types, dialect).
        tasks: (column, hash) of each task: its name, version, options, weights, and the tasks that it reads from.
    """

    columns: str
    rows: str
    tasks: tuple[tuple[str, str], ...]

    @property
    def digest(self) -> str:
        """One short hash of all parts."""
        return digest(asdict(self))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Fingerprint:
        """The inverse of `to_json`. Version 0.1.0 wrote one string, which never equals a current fingerprint.

        Raises:
            ValueError: the data is of another form.
        """
        if isinstance(data, str):
            return cls(data, "", ())
        return _FORM.validate_python(data)

    def accepts(self, done: Fingerprint, keep_models: bool) -> bool:
        """Whether rows finished under another fingerprint also count as finished under this one.

        Args:
            done: the fingerprint that they were finished under.
            keep_models: accept other models, adapters and options for the same columns (`on_model_change: keep`).
        """
        return done == self or (keep_models and (done.columns, done.rows) == (self.columns, self.rows))

    def mixes(self, done: Fingerprint, other: Fingerprint) -> bool:
        """Whether each column was finished as under this fingerprint or as under another one of the same columns."""
        if (done.columns, done.rows) != (self.columns, self.rows) or len(done.tasks) != len(self.tasks):
            return False
        both = zip(done.tasks, self.tasks, other.tasks, strict=True)
        return all(theirs in (mine, others) for theirs, mine, others in both)

    def difference(self, done: Fingerprint) -> str:
        """The reason, as text, why rows finished under `done` do not count as finished under this one."""
        if not done.tasks:
            return "written by an older version"
        if done.rows != self.rows:
            return "other rows are read (where, prepare, types)"
        mine, theirs = dict(self.tasks), dict(done.tasks)
        if changed := [into for into in mine if into in theirs and mine[into] != theirs[into]]:
            return f"another model, adapter or option for {', '.join(changed)}"
        if new := [into for into in mine if into not in theirs]:
            return f"new column {', '.join(new)}"
        return OTHER_COLUMNS

    def reusable(self, done: Fingerprint) -> dict[str, str]:
        """Columns of this fingerprint that can be read from a part file written under another one.

        Returns:
            New column -> the part file's column with the same values.
        """
        if done.rows != self.rows:
            return {}
        there = {value: into for into, value in done.tasks}
        return {into: there[value] for into, value in self.tasks if value in there}


_FORM = TypeAdapter(Fingerprint)


def of_tasks(identities: Sequence[tuple[str, Mapping[str, Any], Sequence[str]]]) -> tuple[tuple[str, str], ...]:
    """The hash of each task, in order.

    Args:
        identities: (column that the task adds, settings that can change it, columns that it reads); the hash of a task
            depends on the hashes of the tasks that it reads from.
    """
    hashes: dict[str, str] = {}
    for into, identity, reads in identities:
        upstream = {name: hashes[name] for column in reads if (name := column_of(column, hashes)) in hashes}
        hashes[into] = digest([identity, upstream])
    return tuple(hashes.items())


def of_schema(schema: pa.Schema) -> str:
    """The hash of the columns of a part file."""
    return digest(schema.remove_metadata().to_string())


def digest(value: Any) -> str:
    """A short hash of plain JSON."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=10).hexdigest()
