"""Labelled rows that were drawn for review: only uniform ones may be held out, and differences are evidence.

Rows of other origin have no columns of a review; they may be held out.
"""

from __future__ import annotations

import pyarrow as pa

from jobs.review import columns
from jobs.spec import SourceSpec
from jobs.store import Store
from jobs.training import identity
from transforms.errors import SpecError

USED = (
    *(columns.DRAWN, "review_at", "review_run", "review_probability", "review_champion", "review_challenger"),
    *("review_differences", "review_others"),
)
# What a labelled row has beside its text and its truth, if it was drawn for review.
COLUMNS = pa.schema(
    [
        *(columns.COLUMNS.field(name) for name in USED),
        pa.field(columns.SKIPPED, pa.int64()),
        pa.field(columns.COMPLETE, pa.bool_()),
    ]
)


def labelled(review: str | None) -> SourceSpec | None:
    """The labelled rows of a review folder as a source; None if there are none yet.

    Raises:
        SpecError: no such kind of URL.
        SinkError: the folder cannot be read.
    """
    if review is None:
        return None
    store = Store(review, "data.review")
    found = [name for name in store.find(".parquet") if name.startswith(f"{columns.LABELS}/")]
    return SourceSpec(path=f"{review.rstrip('/')}/{columns.LABELS}/**/*.parquet") if found else None


def take_columns(table: pa.Table, place: str) -> list[pa.ChunkedArray]:
    """The columns of COLUMNS, in order; nulls for those that the rows do not have.

    Raises:
        SpecError: a column has values of another kind.
    """
    found = []
    for field in COLUMNS:
        if field.name not in table.schema.names:
            found.append(pa.chunked_array([pa.nulls(len(table), field.type)]))
            continue
        try:
            found.append(table.column(field.name).cast(field.type))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise SpecError(
                f"column {field.name!r} of {place} is {table.schema.field(field.name).type} and cannot be read as "
                f"{field.type} ({error}); import the labels again with `nightscribe labels`"
            ) from error
    return found


def held_out(table: pa.Table, fraction: float) -> pa.Array:
    """Whether each row is in a holdout that is split off, bool `(rows,)`: by a hash of its text, once and for all.

    Rows that were drawn because they were uncertain, or because two versions differ, would make the holdout harder than
    the lake, so they are never in it.

    Args:
        table: rows with `key` and COLUMNS.
        fraction: share of the other rows.
    """
    kinds, keys = table.column(columns.DRAWN).to_pylist(), table.column("key").to_pylist()
    fair = (None, columns.UNIFORM)
    return pa.array(
        [kind in fair and identity.position(key, "holdout") < fraction for kind, key in zip(kinds, keys, strict=True)],
        pa.bool_(),
    )


def differences(table: pa.Table) -> pa.Table:
    """The rows that were drawn because two versions differ, without those whose text had been labelled before.

    A version may have learnt a text that had been labelled before, so the row says nothing about it.

    Args:
        table: rows with `key` and COLUMNS.
    """
    first: dict[str, str] = {}
    for key, at in zip(table.column("key").to_pylist(), table.column("review_at").to_pylist(), strict=True):
        # A row of other origin has no time; it counts as the oldest.
        first[key] = min(first.get(key, at or ""), at or "")
    rows = zip(*(table.column(name).to_pylist() for name in ("key", "review_at", columns.DRAWN)), strict=True)
    kept = [kind == columns.DIFFERENCE and first[key] == at for key, at, kind in rows]
    found = table.filter(pa.array(kept, pa.bool_()))
    # Two sources may hold the same labelled row.
    place = {key: row for row, key in reversed(list(enumerate(found.column("key").to_pylist())))}
    return found.take(pa.array(sorted(place.values()), pa.int64()))
