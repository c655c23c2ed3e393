"""Which rows are a person's: those that meet a condition, in tables of which some lack its columns."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from jobs.source.where import MissingColumn, Where
from transforms.errors import SpecError

KEY = "--where"
PLACE = "any file of the sinks, review folders and labelled rows that are searched"

# A column with the number of each row, while they are filtered.
NUMBER = "nightscribe_number_of_the_row"


@dataclass(frozen=True)
class Match:
    """What a condition says about the rows of a batch, each bool `(rows,)`.

    Attributes:
        person: the row is the person's.
        other: it is somebody else's; a row with a null in a column of the condition is neither.
    """

    person: np.ndarray
    other: np.ndarray


class Person:
    """The person whose rows meet a condition; close it after use.

    Args:
        condition: on one row, as `source.where`.

    Raises:
        SpecError: it is no condition, or names no column, so that it would choose every row or none.
    """

    def __init__(self, condition: str):
        self.condition = condition
        self.stack = ExitStack()
        # Schema -> the condition on it; None if it lacks a column.
        self.known: dict[pa.Schema, Where | None] = {}
        if not condition.strip():
            raise SpecError(f"{KEY} is empty; give a condition such as \"author = 'ada'\"")
        try:
            with Where(condition, pa.schema([]), KEY):
                pass
        except MissingColumn:
            return
        raise SpecError(f"{KEY} names no column, so it would choose every row or none; give one such as author = 'ada'")

    def __enter__(self) -> Person:
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def columns(self, schema: pa.Schema, place: str) -> list[str] | None:
        """The columns of a table that the condition reads; None if the table lacks one.

        Raises:
            SpecError: the condition does not fit their types.
        """
        where = self._on(schema, place)
        return None if where is None else list(where.names)

    def match(self, rows: pa.RecordBatch, place: str) -> Match | None:
        """What the condition says about some rows; None if they lack a column of it.

        Args:
            rows: some rows.
            place: the file that they are from, for errors.

        Raises:
            SpecError: the condition cannot be computed.
        """
        if (where := self._on(rows.schema, place)) is None:
            return None
        named = rows.select(where.names)
        met, failed = where.filter(named.append_column(NUMBER, pa.array(np.arange(len(rows)))))
        if failed:
            raise SpecError(f"{place}: {failed[0][1]}; write TRY_CAST in place of CAST; nothing was erased")
        person = np.zeros(len(rows), bool)
        person[met.column(NUMBER).to_numpy()] = True
        complete = np.ones(len(rows), bool)
        for column in named.columns:
            complete &= column.is_valid().to_numpy(zero_copy_only=False)
        return Match(person, complete & ~person)

    def require_columns(self) -> None:
        """Refuse a condition with a column that no table has, such as a mistyped one.

        Raises:
            SpecError: with the columns that there are.
        """
        if self.known and all(where is None for where in self.known.values()):
            names = dict.fromkeys(name for schema in self.known for name in schema.names)
            # Raises with the name of the missing column, unless the columns are in different tables.
            with Where(self.condition, pa.schema([pa.field(name, pa.null()) for name in names]), KEY, PLACE):
                pass
            raise SpecError(f"no table has all columns of {KEY}; columns of all tables: {', '.join(names)}")

    def _on(self, schema: pa.Schema, place: str) -> Where | None:
        plain = schema.remove_metadata()
        if plain not in self.known:
            try:
                where = self.stack.enter_context(Where(self.condition, plain, KEY))
                where.check()
            except MissingColumn:
                self.known[plain] = None
            except SpecError as error:
                raise SpecError(f"{place}: {error}; nothing was erased") from error
            else:
                self.known[plain] = where
        return self.known[plain]
