"""Converts one JSON value to an Arrow type: the slow path of JSON lines, which names the error of each cell.

Numbers are kept as the text in the file until their type is known, so that none is rounded.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Container
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa

from jobs.source.formats.json_marks import is_any

NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]+)?")
BOOLEANS = {"true": True, "false": False, "1": True, "0": False}


class Integer(str):
    """A JSON number without fraction and exponent."""


class Real(str):
    """A JSON number with a fraction or an exponent, or NaN or Infinity."""


class Repeated(dict[str, Any]):
    """A JSON object with a repeated key; the last value is kept."""

    key: str


@dataclass
class Misfit(Exception):
    """A value that does not fit its type.

    Attributes:
        path: the value's path in the line, such as `meta.tags[0]`.
        message: the value and the type.
        kind: InvalidValue, InvalidUTF8, DuplicateKey or UnexpectedKey.
    """

    path: str
    message: str
    kind: str = "InvalidValue"


def parse(line: str) -> Any:
    """Parse a line; numbers become Integer and Real.

    Raises:
        ValueError: the line is not JSON.
        RecursionError: the value is nested too deep.
    """
    return DECODER.decode(line)


def cast(value: Any, type_: pa.DataType) -> Any:
    """A value of a column whose type the job file names, converted where that is exact; else unchanged.

    Args:
        value: from `parse`.
        type_: the column's type. Integers and floats take the text of a number, integers also 5.0, booleans also 1, 0
            and the text of either; white space around text is ignored, as in CSV files.
    """
    if not isinstance(value, str):
        return value
    word = value.strip()
    if pa.types.is_boolean(type_):
        return BOOLEANS.get(word.lower(), value)
    if not (pa.types.is_integer(type_) or pa.types.is_floating(type_)) or not NUMBER.fullmatch(word):
        return value
    if pa.types.is_integer(type_):
        number = Decimal(word)
        return Integer(int(number)) if number.adjusted() < 20 and number == number.to_integral_value() else value
    return Integer(word) if word.removeprefix("-").isdigit() else Real(word)


def fit(value: Any, field: pa.Field, path: str, strict: bool) -> Any:
    """Convert a value to the Python form that `pyarrow.array` accepts for the type of `native(field)`.

    Args:
        value: from `parse`.
        field: the field that it must fit.
        path: its path in the line.
        strict: whether a key that the field's type does not have is an error.

    Raises:
        Misfit: the value does not fit.
    """
    if value is None:
        return None
    if is_any(field):
        return _encodable(value if type(value) is str else text(value), path)
    if (convert := _CONVERT.get(field.type.id)) is not None:
        return convert(value, field, path, strict)
    if type(value) is not str:
        raise _misfit(value, field, path)
    return _encodable(value, path)


def native(field: pa.Field) -> pa.Field:
    """The field with types that JSON has; types that JSON writes as strings, such as dates, become string."""
    type_ = field.type
    kept = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_decimal, pa.types.is_null)
    if any(is_kind(type_) for is_kind in kept):
        return field
    if pa.types.is_floating(type_):
        return field.with_type(pa.float64())
    if pa.types.is_struct(type_):
        return field.with_type(pa.struct([native(type_.field(i)) for i in range(type_.num_fields)]))
    if pa.types.is_map(type_):
        return field.with_type(pa.map_(native(type_.key_field), native(type_.item_field)))
    if _CONVERT.get(type_.id) is _list:
        return field.with_type(pa.list_(native(type_.value_field)))
    return field.with_type(pa.string())


def text(value: Any) -> str:
    """JSON text of a value, with numbers as they are written in the file."""
    if isinstance(value, Integer | Real):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_quoted(key)}: {text(each)}" for key, each in value.items()) + "}"
    return _quoted(value)


def kind(value: Any) -> str:
    """The kind of a value, in the terms of JSON."""
    if value is None:
        return "null"
    names = {bool: "boolean", str: "string", list: "list", Integer: "number", Real: "number"}
    return names.get(type(value), "object")


def with_article(kind_: str) -> str:
    """A kind with its article, such as `an object`."""
    return f"an {kind_}" if kind_ == "object" else f"a {kind_}"


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    repeated = Repeated(found)
    names = [name for name, _ in pairs]
    repeated.key = next(name for name in names if names.count(name) > 1)
    return repeated


DECODER = json.JSONDecoder(parse_int=Integer, parse_float=Real, parse_constant=Real, object_pairs_hook=_pairs)


def _quoted(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _encodable(value: str, path: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        shown = value.encode("utf-8", "backslashreplace").decode()
        raise Misfit(
            path, f"{_shortened(shown)} contains half of a surrogate pair, so it is not valid text", "InvalidUTF8"
        ) from None
    return value


def _misfit(value: Any, field: pa.Field, path: str) -> Misfit:
    shown = _shortened(text(value).encode("utf-8", "backslashreplace").decode())
    return Misfit(path, f"{shown} is {with_article(kind(value))}, and the column is {field.type}")


def _fix(path: str) -> str:
    return f"set source.types: {{{path}: string}} to keep it"


def _shortened(shown: str) -> str:
    return shown if len(shown) <= 80 else f"{shown[:79]}…"


def _boolean(value: Any, field: pa.Field, path: str, strict: bool) -> bool:
    if type(value) is not bool:
        raise _misfit(value, field, path)
    return value


def _integer(value: Any, field: pa.Field, path: str, strict: bool) -> int:
    if type(value) is not Integer:
        raise _misfit(value, field, path)
    bits = field.type.bit_width
    low, high = (-(1 << bits - 1), 1 << bits - 1) if pa.types.is_signed_integer(field.type) else (0, 1 << bits)
    if len(value) > 20 or not low <= (number := int(value)) < high:
        raise Misfit(path, f"{_shortened(value)} is outside the range of {field.type}; {_fix(path)}")
    return number


def _real(value: Any, field: pa.Field, path: str, strict: bool) -> float:
    if not isinstance(value, Integer | Real):
        raise _misfit(value, field, path)
    number = float(value)
    lost = type(value) is Integer and len(value) > 15 and (math.isinf(number) or int(number) != Decimal(value))
    if lost or (math.isinf(number) and "Inf" not in value):
        raise Misfit(path, f"{_shortened(value)} cannot be stored exactly as {field.type}; {_fix(path)}")
    return number


def _decimal(value: Any, field: pa.Field, path: str, strict: bool) -> Decimal:
    if not isinstance(value, str):
        raise _misfit(value, field, path)
    try:
        number = Decimal(value)
        pa.scalar(number, field.type)
    except (InvalidOperation, pa.ArrowInvalid) as error:
        raise Misfit(path, f"{_shortened(value)} does not fit {field.type}") from error
    return number


def _list(value: Any, field: pa.Field, path: str, strict: bool) -> list[Any]:
    if not isinstance(value, list):
        raise _misfit(value, field, path)
    inner = field.type.value_field
    return [fit(each, inner, f"{path}[{i}]", strict) for i, each in enumerate(value)]


def _struct(value: Any, field: pa.Field, path: str, strict: bool) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _misfit(value, field, path)
    names = [each.name for each in field.type]
    check_keys(value, names, path, strict)
    return {name: fit(value.get(name), field.type.field(i), f"{path}.{name}", strict) for i, name in enumerate(names)}


def _map(value: Any, field: pa.Field, path: str, strict: bool) -> list[tuple[str, Any]]:
    if not isinstance(value, dict):
        raise _misfit(value, field, path)
    check_keys(value, value, path, strict)
    inner = field.type.item_field
    return [(key, fit(each, inner, f"{path}.{key}", strict)) for key, each in value.items()]


def _null(value: Any, field: pa.Field, path: str, strict: bool) -> None:
    raise _misfit(value, field, path)


def check_keys(value: dict[str, Any], names: Container[str], path: str, strict: bool) -> None:
    """Refuse an object with one of `names` twice or, if `strict`, with a key that is not in `names`.

    Raises:
        Misfit: the message names the key.
    """
    above = f"{path}." if path else ""
    if isinstance(value, Repeated) and value.key in names:
        raise Misfit(f"{above}{value.key}", f"the key {value.key!r} occurs twice", "DuplicateKey")
    if strict and (extra := [key for key in value if key not in names]):
        keys = ", ".join(above + key for key in sorted(extra))
        raise Misfit(
            f"{above}{extra[0]}",
            f"keys {keys} do not occur in the first part of the file; list the wanted columns in source.columns",
            "UnexpectedKey",
        )


Convert = Callable[[Any, pa.Field, str, bool], Any]
_INTEGERS = [pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()]
_DECIMALS = [pa.decimal32(1), pa.decimal64(1), pa.decimal128(1), pa.decimal256(1)]
_LISTS = [pa.list_(pa.null()), pa.large_list(pa.null()), pa.list_(pa.null(), 1), pa.list_view(pa.null())]
_CONVERT: dict[int, Convert] = {
    pa.bool_().id: _boolean,
    **{type_.id: _integer for type_ in _INTEGERS},
    **{type_.id: _real for type_ in (pa.float16(), pa.float32(), pa.float64())},
    **{type_.id: _decimal for type_ in _DECIMALS},
    **{type_.id: _list for type_ in (*_LISTS, pa.large_list_view(pa.null()))},
    pa.struct([]).id: _struct,
    pa.map_(pa.string(), pa.null()).id: _map,
    pa.null().id: _null,
}
