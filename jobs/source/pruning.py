"""Files of a table that `source.where` rules out by what the table's log says of them, so that they are not read.

The parts of the condition that are joined by AND are computed by DuckDB, as for rows: a part that names only partition
columns on the partition values of each file, a comparison of one column with a constant on its least or greatest value.
A file stays unless a part is certainly not met by any of its rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from jobs.source import condition as conditions
from jobs.source.condition import Tree
from jobs.source.where import Where
from jobs.table import DataFile
from transforms.errors import NightscribeError

# Comparison -> the same with its sides exchanged.
FLIPPED = {
    "COMPARE_EQUAL": "COMPARE_EQUAL",
    "COMPARE_GREATERTHAN": "COMPARE_LESSTHAN",
    "COMPARE_GREATERTHANOREQUALTO": "COMPARE_LESSTHANOREQUALTO",
    "COMPARE_LESSTHAN": "COMPARE_GREATERTHAN",
    "COMPARE_LESSTHANOREQUALTO": "COMPARE_GREATERTHANOREQUALTO",
}
# Types that a constant may be cast to, such as `DATE '2024-01-01'`: whole numbers and dates are ordered like these.
ORDERED = {"DATE", "TIMESTAMP", "INTEGER", "BIGINT", "HUGEINT", "DECIMAL", "DOUBLE"}

# Name of the condition's table when a part of it is written as SQL.
BEFORE = 'SELECT 1 FROM "source" WHERE '


def ruled_out(condition: str, schema: pa.Schema, read: pa.Schema, files: Sequence[DataFile]) -> frozenset[str]:
    """Keys of the files without a row that meets a condition.

    Args:
        condition: `source.where`, which fits the schema.
        schema: columns as the condition sees them.
        read: columns as the table has them.
        files: the data files.
    """
    kept = np.ones(len(files), bool)
    with Where(condition, schema) as where:
        for tree in _parts(where.tree):
            names = conditions.named_columns(tree, schema.names, condition)
            if not names:
                continue
            known = [i for i, file in enumerate(files) if all(name in file.partition for name in names)]
            values = {name: [files[i].partition[name] for i in known] for name in names}
            kept[known] &= _met(_sql(tree, where), schema, read, values)
            for name, side, compared in _comparisons(tree, names):
                type_ = schema.field(name).type
                if type_ != read.field(name).type or not (pa.types.is_integer(type_) or pa.types.is_date32(type_)):
                    continue
                known = [i for i, file in enumerate(files) if name in file.bounds]
                found = [files[i].bounds[name][side] for i in known]
                kept[known] &= _met(_sql(compared, where), schema, read, {name: found})
    return frozenset(file.key for file, stays in zip(files, kept.tolist(), strict=True) if not stays)


def _met(sql: str, schema: pa.Schema, read: pa.Schema, columns: dict[str, list[Any]]) -> np.ndarray:
    """For each row of the columns, whether a part of a condition is met or cannot be computed."""
    count = len(next(iter(columns.values())))
    try:
        arrays = [
            pa.array(values, read.field(name).type).cast(schema.field(name).type) for name, values in columns.items()
        ]
        batch = pa.record_batch(arrays, [*columns])
        number = pa.array(np.arange(count))
        with Where(sql, batch.schema) as where:
            found, failed = where.filter(batch.append_column(_free_name(columns), number))
    except (pa.ArrowException, NightscribeError):
        # A value that is no value of its type, or a part that does not stand alone: nothing is known.
        return np.ones(count, bool)
    met = np.zeros(count, bool)
    met[found.column(len(columns)).to_numpy()] = True
    met[[row for row, _ in failed]] = True
    return met


def _parts(tree: Tree) -> Iterator[Tree]:
    """The conditions that are joined by AND."""
    if tree["type"] == "CONJUNCTION_AND":
        for child in tree["children"]:
            yield from _parts(child)
    else:
        yield tree


def _comparisons(tree: Tree, names: Sequence[str]) -> Iterator[tuple[str, int, Tree]]:
    """Comparisons of a column with a constant: (column, 0 for its least or 1 for its greatest value, comparison).

    A file has a row that meets the part only if its least, or greatest, value meets the comparison.
    """
    if len(names) != 1:
        return
    if tree["type"] == "COMPARE_BETWEEN" and tree["input"]["class"] == "COLUMN_REF":
        for key, kind in (("lower", "COMPARE_GREATERTHANOREQUALTO"), ("upper", "COMPARE_LESSTHANOREQUALTO")):
            yield from _comparisons(_compared(tree["input"], kind, tree[key]), names)
        return
    if tree["class"] != "COMPARISON" or tree["type"] not in FLIPPED:
        return
    left, right, kind = tree["left"], tree["right"], tree["type"]
    if right["class"] == "COLUMN_REF":
        left, right, kind = right, left, FLIPPED[kind]
    if left["class"] != "COLUMN_REF" or len(left["column_names"]) != 1 or not _is_constant(right):
        return
    if kind != "COMPARE_GREATERTHAN" and kind != "COMPARE_GREATERTHANOREQUALTO":
        least = "COMPARE_LESSTHANOREQUALTO" if kind == "COMPARE_EQUAL" else kind
        yield names[0], 0, _compared(left, least, right)
    if kind != "COMPARE_LESSTHAN" and kind != "COMPARE_LESSTHANOREQUALTO":
        greatest = "COMPARE_GREATERTHANOREQUALTO" if kind == "COMPARE_EQUAL" else kind
        yield names[0], 1, _compared(left, greatest, right)


def _compared(left: Tree, kind: str, right: Tree) -> Tree:
    return {"class": "COMPARISON", "type": kind, "alias": "", "left": left, "right": right}


def _is_constant(tree: Tree) -> bool:
    if tree["class"] == "CAST":
        return tree["type_expr"].get("type_name") in ORDERED and tree["child"]["class"] == "CONSTANT"
    return tree["class"] == "CONSTANT"


def _sql(tree: Tree, where: Where) -> str:
    """A part of a condition as SQL."""
    answer = where.connection.execute("SELECT json_serialize_sql('SELECT 1 FROM source WHERE true')").fetchall()
    statement = json.loads(answer[0][0])
    statement["statements"][0]["node"]["where_clause"] = tree
    (text,) = where.connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(statement)]).fetchall()[0]
    return str(text).removeprefix(BEFORE)


def _free_name(names: Sequence[str] | dict[str, Any]) -> str:
    return next(name for name in ("file", "file_", "file__") if name not in names)
