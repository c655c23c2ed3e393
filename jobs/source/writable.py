"""Columns that Parquet cannot hold are refused before anything is computed, since every sink is Parquet."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq

from transforms.errors import SpecError


def check(schema: pa.Schema, place: str) -> None:
    """Refuse columns that cannot be written.

    Args:
        schema: columns that would be written.
        place: where they come from.

    Raises:
        SpecError: a column of a type that Parquet does not have, or two columns of one name.
    """
    for field in schema:
        if schema.names.count(field.name) > 1:
            raise SpecError(f"{place} has two columns named {field.name!r}; rename one")
        try:
            pq.write_table(pa.schema([field]).empty_table(), pa.BufferOutputStream())
        except (pa.ArrowException, ValueError) as error:
            others = ", ".join(name for name in schema.names if name != field.name)
            raise SpecError(
                f"column {field.name!r} of {place} is {field.type}, which Parquet cannot hold; leave it out with "
                f"source.columns: [{others}], or convert it in source.prepare"
            ) from error
