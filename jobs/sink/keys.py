"""Keys of rows (`sink.key`): rows of a batch whose key is, or is not, among known ones."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

Keep = Callable[[pa.RecordBatch], pa.RecordBatch]


def without(keys: pa.Table) -> Keep:
    """A function that takes rows out of a batch if their key is one of these; two nulls are equal.

    Args:
        keys: the keys; its columns are those of a key.
    """
    known = {name: keys.column(name).combine_chunks() for name in keys.column_names}
    wanted = set(_tuples(keys)) if keys.num_columns > 1 else set()

    def keep(batch: pa.RecordBatch) -> pa.RecordBatch:
        if not len(batch):
            return batch
        match = None
        for name, values in known.items():
            found = pc.is_in(batch.column(name).cast(values.type), value_set=values)
            match = found if match is None else pc.and_(match, found)
        if wanted and pc.any(match).as_py():
            # Each column alone may fit while the key as a whole does not.
            match = pa.array([key in wanted for key in _tuples(batch.select(list(known)))], pa.bool_())
        return batch.filter(pc.invert(match))

    return keep


def last_rows(own: pa.Table, later: pa.Table | None) -> pa.Array | None:
    """Which rows of a shard stay: the last one of each key, if no later shard has it.

    Args:
        own: keys of its rows, in order.
        later: keys of later shards.

    Returns:
        One bool per row; None if all stay.
    """
    last = {key: row for row, key in enumerate(_tuples(own))}
    taken = set() if later is None else set(_tuples(later))
    stay = {row for key, row in last.items() if key not in taken}
    return None if len(stay) == len(own) else pa.array([row in stay for row in range(len(own))], pa.bool_())


def _tuples(rows: pa.Table | pa.RecordBatch) -> zip[tuple[object, ...]]:
    return zip(*(column.to_pylist() for column in rows.columns), strict=True)
