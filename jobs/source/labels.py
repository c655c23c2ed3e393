"""Names of labels in columns that hold their numbers, such as 1 of [negative, positive]: tasks see the names.

Datasets name them in their features (ClassLabel), and `source.labels` for any file. The key of a column inside of
others is a path such as `answer.topic`; lists on the way are not part of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from jobs.source.shard import BadRow
from transforms.errors import SpecError
from transforms.options import column_of

Labels = Mapping[str, Sequence[str]]


def of_features(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The labels in the features of a dataset.

    Args:
        features: as plain JSON, the form of `datasets.Features.to_dict()` and of the metadata of its Parquet files.
    """
    found: dict[str, list[str]] = {}

    def walk(path: str, feature: Any) -> None:
        if isinstance(feature, list):
            walk(path, feature[0] if feature else None)
        elif isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            if feature.get("names"):
                found[path] = [str(name) for name in feature["names"]]
        elif isinstance(feature, dict) and "feature" in feature and "_type" in feature:
            walk(path, feature["feature"])
        elif isinstance(feature, dict) and "_type" not in feature:
            for name, inner in feature.items():
                walk(f"{path}.{name}", inner)

    for name, feature in features.items():
        walk(name, feature)
    return found


def check(labels: Labels, schema: pa.Schema) -> None:
    """Refuse labels of a column that does not exist, or that holds no numbers of labels.

    Raises:
        SpecError: naming the column.
    """
    for path in labels:
        name = column_of(path, schema.names)
        if name not in schema.names:
            raise SpecError(f"source.labels: {path!r} is not in the source; columns: {', '.join(schema.names)}")
        try:
            _named_type(schema.field(name).type, name, {path: labels[path]})
        except _Misplaced as error:
            raise SpecError(
                f"source.labels: {path!r} is {error}, and labels have whole numbers or names; remove it"
            ) from error


def named_schema(schema: pa.Schema, labels: Labels) -> pa.Schema:
    """The columns with strings where they have labels."""
    return pa.schema([field.with_type(_named_type(field.type, field.name, labels)) for field in schema])


def named(batch: pa.RecordBatch, labels: Labels) -> Iterator[pa.RecordBatch | BadRow]:
    """The rows with names instead of numbers; a row with a number that no label has becomes a BadRow.

    The numbers -1 and null, which datasets have where a row is not labelled, become null. A name stays as it is.

    Args:
        batch: rows as they were read.
        labels: path -> names, in the order of their numbers; without names, a column keeps its numbers.
    """
    columns, bad = [], np.zeros(len(batch), bool)
    at_fault: dict[int, str] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if not _concerned(field.name, labels):
            columns.append(column)
            continue
        values, wrong = _named(column, field.name, labels)
        columns.append(values)
        at_fault |= {int(row): field.name for row in np.flatnonzero(wrong & ~bad)}
        bad |= wrong
    whole = pa.RecordBatch.from_arrays(columns, schema=named_schema(batch.schema, labels))
    start = 0
    for row in sorted(at_fault):
        if row > start:
            yield whole.slice(start, row - start)
        name = at_fault[row]
        value = batch.column(name)[row].as_py()
        message = f"{name}: {value!r} has a label beyond {_last(name, labels)}"
        yield BadRow("UnknownLabel", message, str(value), None, name, batch.slice(row, 1))
        start = row + 1
    if start < len(whole) or not at_fault:
        yield whole.slice(start)


def named_bad(row: BadRow, labels: Labels) -> BadRow:
    """A row that could not be read, with names instead of numbers in the columns that could be."""
    if row.values is None or not any(_concerned(name, labels) for name in row.values.schema.names):
        return row
    try:
        items = list(named(row.values, labels))
    except _Misplaced:
        return row
    return replace(row, values=items[0]) if isinstance(items[0], pa.RecordBatch) else row


class _Misplaced(Exception):
    """A type that holds no numbers of labels."""


def _concerned(name: str, labels: Labels) -> bool:
    return any(names and (path == name or path.startswith(f"{name}.")) for path, names in labels.items())


def _last(name: str, labels: Labels) -> str:
    found = {path: names for path, names in labels.items() if names and _concerned(name, {path: names})}
    return ", ".join(f"{len(names) - 1} ({names[-1]})" for names in found.values())


def _named_type(type_: pa.DataType, path: str, labels: Labels) -> pa.DataType:
    if not _concerned(path, labels):
        return type_
    if _is_list(type_):
        inner = type_.value_field.with_type(_named_type(type_.value_type, path, labels))
        return pa.large_list(inner) if pa.types.is_large_list(type_) else pa.list_(inner)
    if pa.types.is_struct(type_) and path not in labels:
        return pa.struct([each.with_type(_named_type(each.type, f"{path}.{each.name}", labels)) for each in type_])
    if pa.types.is_dictionary(type_):
        return _named_type(type_.value_type, path, labels)
    if path in labels and (pa.types.is_integer(type_) or _is_text(type_) or pa.types.is_null(type_)):
        return pa.string()
    raise _Misplaced(f"{type_}" if path in labels else f"inside of {path!r}, which is {type_}")


def _named(array: pa.Array, path: str, labels: Labels) -> tuple[pa.Array, Any]:
    """Names instead of numbers, and for each row whether a number has no name."""
    if not _concerned(path, labels):
        return array, np.zeros(len(array), bool)
    if pa.types.is_dictionary(array.type):
        return _named(array.dictionary_decode(), path, labels)
    if _is_list(array.type):
        return _named_list(array, path, labels)
    if pa.types.is_struct(array.type):
        pairs = [_named(array.field(i), f"{path}.{each.name}", labels) for i, each in enumerate(array.type)]
        fields = [each.with_type(values.type) for each, (values, _) in zip(array.type, pairs, strict=True)]
        wrong = np.logical_or.reduce([bad for _, bad in pairs]) & _valid(array)
        return pa.StructArray.from_arrays([values for values, _ in pairs], fields=fields, mask=array.is_null()), wrong
    names = pa.array(labels[path], pa.string())
    return _named_text(array, names) if _is_text(array.type) else _named_numbers(array, names)


def _named_list(array: pa.Array, path: str, labels: Labels) -> tuple[pa.Array, Any]:
    offsets = array.offsets.to_numpy()
    # Only the values of these rows: the array may be a slice of a longer one.
    values, bad = _named(array.values.slice(offsets[0], offsets[-1] - offsets[0]), path, labels)
    offsets = offsets - offsets[0]
    before = np.concatenate([[0], np.cumsum(bad)])
    wrong = ((before[offsets[1:]] - before[offsets[:-1]]) > 0) & _valid(array)
    kind = pa.LargeListArray if pa.types.is_large_list(array.type) else pa.ListArray
    made = kind.from_arrays(pa.array(offsets, array.offsets.type), values, mask=array.is_null())
    return made.cast(_named_type(array.type, path, labels)), wrong


def _named_numbers(array: pa.Array, names: pa.Array) -> tuple[pa.Array, Any]:
    if pa.types.is_null(array.type):
        return pa.nulls(len(array), pa.string()), np.zeros(len(array), bool)
    numbers = pc.fill_null(array.cast(pa.int64()), -1)
    wrong = pc.or_(pc.less(numbers, -1), pc.greater_equal(numbers, len(names))).to_numpy(zero_copy_only=False)
    known = pc.and_(pc.greater_equal(numbers, 0), pc.less(numbers, len(names)))
    return names.take(pc.if_else(known, numbers, pa.scalar(None, pa.int64()))), wrong


def _named_text(array: pa.Array, names: pa.Array) -> tuple[pa.Array, Any]:
    """Text may be a name already, or a number as text."""
    known = dict.fromkeys(names.to_pylist())
    numbers = {str(i): name for i, name in enumerate(known)} | {"-1": None, "": None}
    texts = array.cast(pa.string()).to_pylist()
    wrong = np.array([text is not None and text not in known and text not in numbers for text in texts], bool)
    values = [text if text is None or text in known else numbers.get(text) for text in texts]
    return pa.array(values, pa.string()), wrong


def _valid(array: pa.Array) -> Any:
    return array.is_valid().to_numpy(zero_copy_only=False)


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_large_list(type_))


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))
