"""Types of JSON keys, inferred from the values in the head of a file.

A string is always text, because JSON has no dates. Numbers are int64 or double if every number prints back identically;
otherwise (1 and 1.0 under one key, 20 digits, 1e400) they are kept as text.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.json

from jobs.source.formats.json_marks import any_text
from jobs.source.formats.json_values import Integer, Real, kind, parse

# Numbers are compared with their text in this many bytes at the beginning of a file.
EXACT_BYTES = 1 << 20
# If at most this share of a key's values is of another kind, those values become rejected rows. With a larger share,
# the key becomes JSON text. The limit is lower where objects or lists are among the kinds.
MAX_OTHER_LISTS = 0.01
MAX_OTHER_SCALARS = 1 / 3

# Arrow's formats support 64 levels, and its type inference overflows the stack at some thousands.
MAX_DEPTH = 32

SCALARS = ("boolean", "number", "string")


@dataclass(frozen=True)
class Keys:
    """The keys of a file and their types.

    Attributes:
        schema: a column for each key, in the order of first occurrence.
        objects: number of lines that are JSON objects; None if all are.
    """

    schema: pa.Schema
    objects: int | None = None


@dataclass
class Seen:
    """The values seen under one key.

    Attributes:
        counts: kind -> number of values of that kind.
        integers: whether some number has neither fraction nor exponent.
        reals: whether some number has a fraction or an exponent.
        exact: whether every number prints back identically.
        deep: whether some value is nested deeper than Arrow supports; the key is then JSON text.
        torn: number of lists with items of several kinds; the key is JSON text if there are many.
        items: the items of the lists.
        fields: the fields of the objects.
    """

    counts: Counter[str] = field(default_factory=Counter)
    integers: bool = False
    reals: bool = False
    exact: bool = True
    deep: bool = False
    torn: int = 0
    items: Seen | None = None
    fields: dict[str, Seen] = field(default_factory=dict)

    def add(self, value: Any, depth: int = 0) -> None:
        """Add one value, which is nested in `depth` objects and lists."""
        found = kind(value)
        if depth > MAX_DEPTH and found in ("object", "list"):
            self.deep = True
            return
        self.counts[found] += 1
        if found == "number":
            self._add_number(value)
        elif found == "object":
            for key, each in value.items():
                if key not in self.fields:
                    self.fields[key] = Seen()
                self.fields[key].add(each, depth + 1)
        elif found == "list":
            if self.items is None:
                self.items = Seen()
            for each in value:
                self.items.add(each, depth + 1)
            if len({kind(each) for each in value} - {"null"}) > 1:
                self.torn += 1

    def _add_number(self, value: Integer | Real) -> None:
        if isinstance(value, Integer):
            self.integers = True
            self.exact = self.exact and (len(value) < 19 or -(1 << 63) <= int(value) < 1 << 63)
        else:
            self.reals = True
            self.exact = self.exact and (_printed(value) == value or value in ("NaN", "Infinity", "-Infinity"))

    def field(self, name: str) -> pa.Field:
        """The key as a column; JSON text if its values have no common type."""
        if self.deep:
            return any_text(name)
        kinds = {each: count for each, count in self.counts.items() if each != "null"}
        if not kinds:
            return pa.field(name, pa.null())
        shapes = Counter({each: count for each, count in kinds.items() if each not in SCALARS})
        scalars = Counter({each: count for each, count in kinds.items() if each in SCALARS})
        shapes["scalar"] = scalars.total()
        (shape, most), *_ = shapes.most_common()
        if most < (1 - MAX_OTHER_LISTS) * shapes.total():
            return any_text(name, self._nested(name))
        if shape == "list" and self.torn > MAX_OTHER_LISTS * kinds["list"]:
            return any_text(name, self._nested(name))
        if shape != "scalar":
            is_shape = pa.types.is_struct if shape == "object" else pa.types.is_list
            return next(each for each in self._nested(name) if is_shape(each.type))
        (scalar, most), *_ = scalars.most_common()
        if most < (1 - MAX_OTHER_SCALARS) * scalars.total():
            return any_text(name)
        if scalar == "number":
            return self._number(name)
        return pa.field(name, pa.bool_() if scalar == "boolean" else pa.string())

    def _nested(self, name: str) -> list[pa.Field]:
        """The type of the objects, and that of the lists."""
        found = []
        if self.counts["object"]:
            found.append(pa.field(name, pa.struct([each.field(key) for key, each in self.fields.items()])))
        if self.items is not None:
            found.append(pa.field(name, pa.list_(self.items.field("item"))))
        return found

    def _number(self, name: str) -> pa.Field:
        if not self.exact or (self.integers and self.reals):
            return any_text(name)
        return pa.field(name, pa.float64() if self.reals else pa.int64())


def infer(head: bytes) -> Keys:
    """Infer the keys and types of the lines that are JSON objects.

    Args:
        head: whole lines from the beginning of the file.
    """
    if not head.strip():
        return Keys(pa.schema([]))
    if _may_be_deep(head):
        return _walked(head)
    try:
        schema = _inferred(head)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        return _walked(head)
    if any(_depth(each.type) > MAX_DEPTH for each in schema):
        return _walked(head)
    if not _has_reals(schema):
        return Keys(pa.schema([_plain(each) for each in schema]))
    # Arrow infers double without an error for 20 digits, and for a key with both 1 and 1.0.
    start = head[: head.rfind(b"\n", 0, EXACT_BYTES) + 1] if len(head) > EXACT_BYTES else head
    numbers = _walked(start or head).schema
    fields = [_exact(_plain(each), _get(numbers, each.name)) for each in schema]
    return Keys(pa.schema(fields))


def _may_be_deep(head: bytes) -> bool:
    """Whether some line may be nested deeper than MAX_DEPTH, estimated from its number of brackets."""
    most = 8 * MAX_DEPTH
    if head.count(b"{") + head.count(b"[") - head.count(b"\n") < most:
        return False
    return any(line.count(b"{") + line.count(b"[") >= most for line in head.split(b"\n"))


def _inferred(head: bytes) -> pa.Schema:
    block = pa.json.ReadOptions(use_threads=False, block_size=len(head) + 1)
    return pa.json.read_json(pa.BufferReader(head), block).schema


def _walked(head: bytes) -> Keys:
    """Infer the types in Python, value by value (slow); lines that are not objects are ignored."""
    seen = Seen()
    objects = 0
    for line in head.split(b"\n"):
        try:
            value = parse(line.decode())
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            objects += 1
            seen.add(value)
    return Keys(pa.schema([each.field(key) for key, each in seen.fields.items()]), objects)


def _plain(each: pa.Field) -> pa.Field:
    """The field with string instead of each time type, because Arrow infers times from strings."""
    type_ = each.type
    if pa.types.is_struct(type_):
        return each.with_type(pa.struct([_plain(type_.field(i)) for i in range(type_.num_fields)]))
    if pa.types.is_list(type_):
        return each.with_type(pa.list_(_plain(type_.value_field)))
    return each.with_type(pa.string()) if pa.types.is_temporal(type_) else each


def _exact(each: pa.Field, walked: pa.Field | None) -> pa.Field:
    """The field as Arrow inferred it, with text instead of doubles that do not print back identically."""
    if walked is None:
        return each
    type_, other = each.type, walked.type
    if pa.types.is_struct(type_) and pa.types.is_struct(other):
        inner = [_exact(field, _get(other, field.name)) for field in type_]
        return each.with_type(pa.struct(inner))
    if pa.types.is_list(type_) and pa.types.is_list(other):
        return each.with_type(pa.list_(_exact(type_.value_field, other.value_field)))
    return walked if pa.types.is_floating(type_) and pa.types.is_string(other) else each


def _get(of: pa.Schema | pa.StructType, name: str) -> pa.Field | None:
    i = of.get_field_index(name)
    return None if i < 0 else of.field(i)


def _has_reals(types: Iterable[pa.Field]) -> bool:
    for each in types:
        type_ = each.type.value_type if pa.types.is_list(each.type) else each.type
        if pa.types.is_floating(type_) or (
            pa.types.is_nested(type_) and _has_reals(type_.field(i) for i in range(type_.num_fields))
        ):
            return True
    return False


def _depth(type_: pa.DataType) -> int:
    """Levels of nested structs and lists; counting stops at MAX_DEPTH + 1."""
    level = [type_]
    for depth in range(MAX_DEPTH + 1):
        level = [t.field(i).type for t in level if pa.types.is_nested(t) for i in range(t.num_fields)]
        if not level:
            return depth
    return MAX_DEPTH + 1


def _printed(value: str) -> str:
    return repr(float(value))
