"""Rows on which champion and challenger differ: the only ones whose labels say which of the two is better."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from jobs.review.draw import draw


def draw_differences(
    rows: pa.Table, champion_predictions: pa.Array, challenger_predictions: pa.Array, n: int
) -> pa.Table:
    """Draw rows uniformly among those on which two models differ.

    The draw depends on the keys of those rows alone, so the same rows are drawn again for the same two models.

    Args:
        rows: a table with a string column `key`, without repeats.
        champion_predictions: what the champion says of each row.
        challenger_predictions: the same of the challenger.
        n: expected number of rows; all that differ if there are fewer.

    Returns:
        The drawn rows, with columns `champion`, `challenger` and `probability`: that of being drawn among the rows
        that differ, float64.

    Raises:
        ValueError: the three have different lengths.
    """
    if not len(rows) == len(champion_predictions) == len(challenger_predictions):
        raise ValueError(
            f"{len(rows)} rows have {len(champion_predictions)} predictions of the champion and "
            f"{len(challenger_predictions)} of the challenger"
        )
    first, second = champion_predictions.to_pylist(), challenger_predictions.to_pylist()
    differ = np.flatnonzero([a != b for a, b in zip(first, second, strict=True)])
    keys = [rows["key"][int(row)].as_py() for row in differ]
    seed = hashlib.sha256("\n".join(sorted(keys)).encode()).hexdigest()
    found = draw(keys, np.full(len(keys), np.nan), n, "random", seed)
    taken = pa.array(differ[found.uniform], pa.int64())
    return (
        rows.take(taken)
        .append_column("champion", champion_predictions.take(taken))
        .append_column("challenger", challenger_predictions.take(taken))
        .append_column("probability", pa.array(found.probability[found.uniform]))
    )
