"""The texts of a row: as a model reads them, which gives the keys of the row, and as reports show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from jobs.plan.task import TaskPlan
from jobs.review import columns, population
from jobs.spec import TaskSpec
from jobs.spec.review import TASKS
from jobs.training import identity
from transforms.options import column_of, columns_read

TEXT = "review_text"


@dataclass(frozen=True)
class Texts:
    """Where the texts of a table are.

    Attributes:
        tasks: tasks that read its rows.
        roles: canonical column of labelled rows -> its column in the table.
    """

    tasks: Sequence[TaskSpec] = ()
    roles: Mapping[str, str] = field(default_factory=dict)

    def columns(self, names: Sequence[str]) -> list[str]:
        """The columns with texts or keys, of those that a table has."""
        found = [columns.KEY, TEXT, *self._inputs.values()]
        found += [column_of(column, names) for task in self.tasks for column in columns_read(task.options)]
        return [name for name in dict.fromkeys(found) if name in names]

    def keys(self, rows: pa.RecordBatch) -> list[set[str]]:
        """The keys of each row: of its texts, and the one that is written there."""
        found = [set(map(identity.key, texts)) for texts in self.read(rows)]
        if columns.KEY in rows.schema.names:
            for keys, key in zip(found, rows.column(columns.KEY).to_pylist(), strict=True):
                keys.update([key] if isinstance(key, str) else [])
        return found

    def read(self, rows: pa.RecordBatch) -> list[list[str]]:
        """The texts of each row as models read them, prompts filled in."""
        names = rows.schema.names
        found: list[Sequence[str | None]] = []
        if TEXT in names:
            found.append(rows.column(TEXT).to_pylist())
        for task in self.tasks:
            if not all(column_of(column, names) in names for column in columns_read(task.options)):
                continue
            if task.task in TASKS:
                found.append(population.texts(TaskPlan(task), rows))
            else:
                found += [rows.column(column).to_pylist() for column in columns_read(task.options) if column in names]
        if self._inputs and all(column in names for column in self._inputs.values()):
            values = zip(*(rows.column(column).to_pylist() for column in self._inputs.values()), strict=True)
            found.append([identity.read_text(dict(zip(self._inputs, row, strict=True))) for row in values])
        return [[text for text in row if isinstance(text, str) and text] for row in _by_row(found, len(rows))]

    def shown(self, rows: pa.RecordBatch) -> list[list[str]]:
        """The texts of each row as reports show them: also each column of a prompt alone."""
        columns_ = dict.fromkeys(column for task in self.tasks for column in columns_read(task.options))
        raw = [rows.column(name).to_pylist() for name in columns_ if name in rows.schema.names]
        more = [[str(text) for text in row if text is not None] for row in _by_row(raw, len(rows))]
        return [[*texts, *others] for texts, others in zip(self.read(rows), more, strict=True)]

    @property
    def _inputs(self) -> dict[str, str]:
        """The columns that a model reads, without the truth."""
        return {role: column for role, column in self.roles.items() if role in ("text", "prompt", "messages")}


def _by_row(found: Sequence[Sequence[str | None]], rows: int) -> list[tuple[str | None, ...]]:
    return list(zip(*found, strict=True)) if found else [()] * rows
