"""A kind of source: a module that pins, plans and reads, such as `lake` (files) and `dataset`.

A new kind is a module with these three functions and one line in `KINDS`.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import pyarrow as pa

from jobs.source.layouts import Layouts
from jobs.source.shard import BadRow, Shard
from jobs.spec import SourceSpec
from transforms.errors import SpecError

# Key of `source` -> module of its kind; imported when used, because datasets takes most of a second to import.
KINDS = {"path": "jobs.source.lake", "table": "jobs.source.table", "dataset": "jobs.source.dataset"}


@dataclass(frozen=True)
class Found:
    """The schema and the shards of a source, known before rows are read.

    Attributes:
        schema: columns that are read, in order, with types that fit all shards.
        partition_columns: Hive columns (string) that only the folders have.
        shards: every shard, in order.
        types: columns that CSV text is converted to, although it need not print back identically: those of
            `source.types`, and those that other files declare.
        labels: path of a column that holds numbers of labels -> their names, as `source.labels`.
        divided_by: columns of `schema` by which the files of a table are divided.
        changes: other keys of the section that are known now, such as the delimiter that a dataset states.
    """

    schema: pa.Schema
    partition_columns: tuple[str, ...]
    shards: list[Shard]
    types: Mapping[str, pa.DataType] = field(default_factory=dict)
    labels: Mapping[str, list[str]] = field(default_factory=dict)
    divided_by: tuple[str, ...] = ()
    changes: Mapping[str, Any] = field(default_factory=dict)


class SourceKind(Protocol):
    """The functions of a module that reads one kind of source."""

    def pin(self, spec: SourceSpec) -> SourceSpec:
        """The section with moving references (a branch, a tag) replaced by the commit that they point to now.

        Raises:
            SpecError: the source does not exist.
        """
        ...

    def plan(
        self,
        spec: SourceSpec,
        sink: str | None,
        texts: Collection[str],
        pinned: Mapping[str, pa.DataType],
        known: Layouts | None = None,
    ) -> Found:
        """List the shards of a pinned section, and the columns that they share.

        Args:
            spec: the section, pinned.
            sink: URL of the folder that the job writes to, which must not lie among the source's files.
            texts: columns, or `struct.field`s, that are text wherever a file leaves their type open.
            pinned: column -> type in an earlier plan of the job, for columns whose type the files leave open.
            known: layouts of files that were read before.

        Raises:
            SpecError: a path, dataset, split or column does not exist.
            SourceError: a file cannot be read.
        """
        ...

    def read(
        self, spec: SourceSpec, shard: Shard, schema: pa.Schema, batch_rows: int
    ) -> Iterator[pa.RecordBatch | BadRow]:
        """The rows of a shard, in order: batches with columns of `schema`, and the rows that cannot be read.

        Raises:
            SourceError: the file is truncated, no longer exists, or has changed.
        """
        ...


def of(spec: SourceSpec) -> SourceKind:
    """The module that reads the source of a job file."""
    module = next(module for key, module in KINDS.items() if getattr(spec, key) is not None)
    return cast(SourceKind, importlib.import_module(module))


def check_columns(spec: SourceSpec, known: list[str], place: str) -> None:
    """Refuse a selection that names a column twice, or a column that does not exist.

    Raises:
        SpecError: the message lists the existing columns.
    """
    wanted = spec.columns or []
    if twice := [name for name in dict.fromkeys(wanted) if wanted.count(name) > 1]:
        raise SpecError(f"source.columns names {twice[0]!r} twice; name each column once")
    if missing := [name for name in wanted if name not in known]:
        raise SpecError(f"source.columns: {missing[0]!r} is not in {place}; columns: {', '.join(known)}")
