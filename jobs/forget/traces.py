"""What a person has left: the rows in all files, their keys, and their texts.

Some files have the columns of the condition, others have only keys. A row is the person's if it meets the condition, or
if its text is that of a row that does; a text that somebody else has written too identifies nobody, so rows and keys
are not erased because of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import pyarrow as pa

from jobs.forget.person import Person
from jobs.forget.texts import Texts
from jobs.source.where import take

Identity = tuple[str, str]


class Searched(Protocol):
    """A file, or several, with rows of people."""

    @property
    def name(self) -> str:
        """The file, for errors."""

    @property
    def identity(self) -> Identity:
        """The same for one file that is reached in two ways."""

    @property
    def texts(self) -> Texts:
        """Where its texts are."""

    def schema(self) -> pa.Schema:
        """Its columns."""

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Its rows, in the same order each time."""


@dataclass(frozen=True)
class Traces:
    """What a person has left.

    Attributes:
        rows: file -> numbers of the person's rows, ascending, int64 `(rows,)`.
        named: files of which some rows meet the condition; the other files have the columns not, or no such rows.
        own: file -> keys of the person's rows in it.
        keys: keys that are the person's alone.
        texts: the texts of all of the person's rows, as models read them and as reports show them.
    """

    rows: Mapping[Identity, np.ndarray]
    named: frozenset[Identity] = frozenset()
    own: Mapping[Identity, frozenset[str]] = field(default_factory=dict)
    keys: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()

    def of(self, file: Searched) -> np.ndarray:
        """The numbers of the person's rows in a file."""
        return self.rows.get(file.identity, np.zeros(0, np.int64))


@dataclass
class _Found:
    """What is known about one file: row -> its keys."""

    met: dict[int, frozenset[str]] = field(default_factory=dict)
    same: dict[int, frozenset[str]] = field(default_factory=dict)


def find(person: Person, files: Iterable[Searched], enriched: Iterable[Searched]) -> Traces:
    """Search all files: for rows that meet the condition, and for rows with the keys of those.

    Args:
        person: whose rows are wanted.
        files: files that rows are erased from.
        enriched: files that are only read, for the texts of the person's rows; not for rows with equal texts.

    Raises:
        SpecError: the condition does not fit a file, or no file has its columns.
        RunError: a file cannot be read.
    """
    changed = list(files)
    texts: set[str] = set()
    found: dict[Identity, _Found] = {}
    for file in [*changed, *enriched]:
        found[file.identity] = _Found(met=dict(_met(person, file, texts)))
    person.require_columns()
    keys = {key for each in found.values() for of_row in each.met.values() for key in of_row}
    others: set[str] = set()
    if keys:
        for file in changed:
            found[file.identity].same.update(_same(person, file, keys, others))
    keys -= others
    for file in changed:
        each = found[file.identity]
        each.same = {row: mine for row, of_row in each.same.items() if (mine := of_row & keys)}
        if each.same:
            texts.update(_texts(file, np.array(sorted(each.same))))
    return Traces(
        {identity: np.array(sorted(each.met | each.same), np.int64) for identity, each in found.items()},
        frozenset(identity for identity, each in found.items() if each.met),
        {identity: frozenset().union(*each.met.values(), *each.same.values()) for identity, each in found.items()},
        frozenset(keys),
        frozenset(texts),
    )


def _met(person: Person, file: Searched, texts: set[str]) -> Iterator[tuple[int, frozenset[str]]]:
    """The rows of a file that meet the condition, with their keys; their texts are added to `texts`."""
    schema = file.schema()
    if (named := person.columns(schema, file.name)) is None:
        return
    wanted = list(dict.fromkeys([*named, *file.texts.columns(schema.names)]))
    start = 0
    for batch in file.batches(wanted):
        match = person.match(batch, file.name)
        rows = np.flatnonzero(match.person) if match is not None else np.zeros(0, int)
        if len(rows):
            mine = take(batch.select(file.texts.columns(batch.schema.names)), rows)
            texts.update(text for of_row in file.texts.shown(mine) for text in of_row)
            for row, keys in zip(rows, file.texts.keys(mine), strict=True):
                yield start + int(row), frozenset(keys)
        start += len(batch)


def _same(person: Person, file: Searched, keys: set[str], others: set[str]) -> Iterator[tuple[int, frozenset[str]]]:
    """The rows of a file that have such keys and do not meet the condition.

    The keys of those that are somebody else's are added to `others`.
    """
    schema = file.schema()
    read = file.texts.columns(schema.names)
    if not read:
        return
    named = person.columns(schema, file.name) or []
    start = 0
    for batch in file.batches(list(dict.fromkeys([*named, *read]))):
        match = person.match(batch, file.name) if named else None
        for row, of_row in enumerate(file.texts.keys(batch)):
            if not (shared := of_row & keys) or (match is not None and match.person[row]):
                continue
            if match is not None and match.other[row]:
                others.update(shared)
            else:
                yield start + row, frozenset(shared)
        start += len(batch)


def _texts(file: Searched, rows: np.ndarray) -> Iterator[str]:
    """The texts of some rows."""
    start = 0
    for batch in file.batches(file.texts.columns(file.schema().names)):
        mine = rows[(rows >= start) & (rows < start + len(batch))] - start
        if len(mine):
            yield from (text for of_row in file.texts.shown(take(batch, mine)) for text in of_row)
        start += len(batch)
