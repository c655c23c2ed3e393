"""A 128-bit hash of each row over some of its columns: rows with equal hashes have equal values in these columns.

The hash is BLAKE2b (RFC 7693) of 16 bytes, because a collision would give a row the result of another one. It depends
on values only, not on how Arrow holds them (offsets, chunks, dictionaries), and a null, an empty text and an empty list
have different hashes. The types are not part of it: rows are compared only if the hash of the task, which contains the
types of the columns that it reads, is the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import pyarrow as pa

BYTES = 16

# The digest of a null.
NULL = bytes(BYTES)

# What a hash is as numbers that can be compared and sorted quickly.
KEY = np.dtype([("high", ">u8"), ("low", ">u8")])


def rows(columns: Sequence[pa.Array]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The hash of each row.

    Args:
        columns: one or more columns of the same length, of any type that Parquet can hold.

    Returns:
        `(rows, 16)` bytes.
    """
    if len(columns) == 1:
        return _digests(columns[0])
    return _joined([_digests(column) for column in columns])


def _digests(values: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """16 bytes for each value of a column."""
    type_ = values.type
    if isinstance(values, pa.ExtensionArray):
        return _digests(values.storage)
    if pa.types.is_null(type_):
        return np.zeros((len(values), BYTES), np.uint8)
    if pa.types.is_dictionary(type_):
        found = _digests(values.dictionary)
        indices = values.indices.fill_null(0).to_numpy(zero_copy_only=False)
        return _with_nulls(found[indices] if len(found) else np.zeros((len(values), BYTES), np.uint8), values)
    if pa.types.is_struct(type_):
        # `field` has the offset of the struct, but not its nulls, which `_with_nulls` writes over.
        fields = [_digests(values.field(i)) for i in range(type_.num_fields)]
        fields = fields or [np.zeros((len(values), BYTES), np.uint8)]
        return _with_nulls(_joined(fields), values)
    if pa.types.is_fixed_size_list(type_):
        size = type_.list_size
        children = values.values.slice(values.offset * size, len(values) * size)
        return _with_nulls(_hashed(_digests(children), np.arange(len(values) + 1) * size * BYTES), values)
    if pa.types.is_list(type_) or pa.types.is_large_list(type_) or pa.types.is_map(type_):
        offsets = values.offsets.to_numpy()
        first, last = (int(offsets[0]), int(offsets[-1])) if len(offsets) else (0, 0)
        children = _children(values).slice(first, last - first)
        return _with_nulls(_hashed(_digests(children), (offsets.astype(np.int64) - first) * BYTES), values)
    if _is_text(type_):
        return _with_nulls(_hashed(*_content(values)), values)
    return _with_nulls(_fixed(values), values)


def _is_text(type_: pa.DataType) -> bool:
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(is_kind(type_) for is_kind in kinds)


def _children(values: pa.Array) -> pa.Array:
    """The values of all lists, one after the other; of maps the pairs."""
    if not pa.types.is_map(values.type):
        return values.values
    return pa.StructArray.from_arrays([values.keys, values.items], ["key", "value"])


def _content(values: pa.Array) -> tuple[memoryview, np.ndarray[Any, Any]]:
    """The bytes of all texts, and where each begins, without a copy."""
    _, offsets, data = values.buffers()
    wide = pa.types.is_large_string(values.type) or pa.types.is_large_binary(values.type)
    kind: Any = np.int64 if wide else np.int32
    if offsets is None:
        return memoryview(b""), np.zeros(len(values) + 1, kind)
    found = np.frombuffer(offsets, kind)[values.offset : values.offset + len(values) + 1]
    return memoryview(data if data is not None else b""), found


def _fixed(values: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Values of a fixed number of bytes: themselves behind a one if they are short enough, else their hash."""
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    width = values.type.bit_width // 8
    data = values.buffers()[1]
    if data is None:
        return np.zeros((len(values), BYTES), np.uint8)
    found = np.frombuffer(data, np.uint8)[values.offset * width : (values.offset + len(values)) * width]
    if width >= BYTES:
        return _hashed(found, np.arange(len(values) + 1) * width)
    digests = np.zeros((len(values), BYTES), np.uint8)
    digests[:, 0] = 1
    digests[:, 1 : 1 + width] = found.reshape(len(values), width)
    return digests


def _joined(columns: Sequence[np.ndarray[Any, np.dtype[np.uint8]]]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """One digest of several columns; each of them has 16 bytes, so that no two ways to divide a row are equal."""
    whole = np.concatenate(columns, axis=1)
    return _hashed(whole, np.arange(len(whole) + 1) * whole.shape[1])


def _hashed(data: Any, offsets: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The hash of each piece of some bytes, which begin at the offsets."""
    # `memoryview` of an array of no bytes cannot be cast.
    view = memoryview(data).cast("B") if not isinstance(data, memoryview) and data.size else memoryview(data)
    ends = offsets.tolist()
    starts = ends[:-1]
    # One call for each row: 0.6 microseconds each.
    found = b"".join([blake2b(view[a:b], digest_size=BYTES).digest() for a, b in zip(starts, ends[1:], strict=True)])
    return np.frombuffer(bytearray(found), np.uint8).reshape(len(starts), BYTES)


def _with_nulls(digests: np.ndarray[Any, np.dtype[np.uint8]], values: pa.Array) -> np.ndarray[Any, np.dtype[np.uint8]]:
    if values.null_count:
        digests[values.is_null().to_numpy(zero_copy_only=False)] = 0
    return digests
