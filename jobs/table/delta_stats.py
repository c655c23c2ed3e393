"""Statistics of a part file for the log of a Delta table, from its Parquet footer.

Readers skip files by them, so a bound that may be wrong is left out.
https://github.com/delta-io/delta/blob/master/PROTOCOL.md#per-file-statistics
"""

from __future__ import annotations

import json
from datetime import date, datetime
from typing import Any

import pyarrow.parquet as pq

# Longer texts are left out: the largest value would have to be shortened upwards.
MAX_CHARACTERS = 32


def statistics(footer: pq.FileMetaData) -> str:
    """Number of rows; smallest and largest value and number of nulls of each flat column, as JSON."""
    smallest: dict[str, Any] = {}
    largest: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for j in range(footer.num_columns):
        name = footer.schema.column(j).path
        if "." in name or footer.schema.column(j).max_repetition_level:
            continue
        found = [footer.row_group(i).column(j).statistics for i in range(footer.num_row_groups)]
        if any(each is None or not each.has_null_count for each in found):
            continue
        nulls[name] = sum(each.null_count for each in found)
        # A row group of nulls only has no bounds.
        bounded = [each for each in found if each.num_values]
        if not bounded or any(not each.has_min_max for each in bounded):
            continue
        low, high = _value(min(each.min for each in bounded)), _value(max(each.max for each in bounded))
        if low is not None and high is not None:
            smallest[name], largest[name] = low, high
    return json.dumps({"numRecords": footer.num_rows, "minValues": smallest, "maxValues": largest, "nullCount": nulls})


def _value(value: Any) -> Any:
    """The value in the log; None if it is left out."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        # A footer does not count NaN, which Spark takes for the largest number.
        return None
    if isinstance(value, str):
        return value if len(value) <= MAX_CHARACTERS else None
    if isinstance(value, datetime):
        # The log has milliseconds, and the largest value may not be below the true one.
        return None
    return value.isoformat() if isinstance(value, date) else None
