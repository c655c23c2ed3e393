"""The Arrow type of the values that a JSON schema allows.

Source: JSON Schema, draft 2020-12 (https://json-schema.org/draft/2020-12). Objects are structs, arrays lists, strings
`string`, integers `int64`, numbers `double`, booleans `bool`; whatever may be null, or may be left out, is nullable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

SCALARS = {
    "string": pa.string(),
    "integer": pa.int64(),
    "number": pa.float64(),
    "boolean": pa.bool_(),
    "null": pa.null(),
}

# Keys that imply the type of a value.
SHAPES = ("properties", "items", "anyOf", "oneOf", "allOf", "enum", "const")

Schema = Mapping[str, Any]


def arrow_type(schema: Schema) -> pa.DataType:
    """The Arrow type that fits every value valid under a schema.

    Args:
        schema: a JSON schema; `$ref` may point into it.

    Raises:
        ValueError: there is no such type; the message names the place in the schema.
    """
    return _type(schema, schema, "$", ("#",))


def closed(schema: Schema) -> dict[str, Any]:
    """The same schema without additional properties in objects, because a struct has no field for them."""
    return _closed(schema)


def column(texts: Sequence[str | None], type_: pa.DataType) -> tuple[pa.Array, dict[int, Exception]]:
    """Convert JSON texts to a column.

    Args:
        texts: JSON, valid under the schema from which the type was made; None is null.
        type_: a result of `arrow_type`.

    Returns:
        The column, and the rows whose value does not fit the type (a whole number past 64 bits, a text that is not
        Unicode), which are null, with the reason.
    """
    values = [None if text is None else json.loads(text) for text in texts]
    try:
        return pa.array(values, type_), {}
    except (pa.ArrowException, OverflowError, UnicodeError):
        arrays: list[pa.Array] = []
        errors: dict[int, Exception] = {}
        for row, value in enumerate(values):
            try:
                arrays.append(pa.array([value], type_))
            except (pa.ArrowException, OverflowError, UnicodeError) as error:
                errors[row] = ValueError(f"the JSON text does not fit {type_}: {error}")
                arrays.append(pa.nulls(1, type_))
        return pa.concat_arrays(arrays), errors


def _type(node: Any, root: Schema, place: str, seen: tuple[str, ...]) -> pa.DataType:
    if not isinstance(node, Mapping):
        # A ValueError, because pydantic collects the errors of a job file from ValueErrors.
        raise ValueError(f"{place} is {node!r}; give it a type")  # noqa: TRY004
    if reference := node.get("$ref"):
        if beside := [key for key in SHAPES if key in node]:
            raise ValueError(f"{place} has {beside[0]} beside $ref; put both into one schema")
        if reference in seen:
            raise ValueError(
                f"{place} refers to itself ({reference}), but a struct has a fixed depth; remove the reference"
            )
        return _type(_resolved(reference, root, place), root, place, (*seen, reference))
    for key in ("anyOf", "oneOf", "allOf"):
        if key in node:
            types = [_type(item, root, f"{place}.{key}[{i}]", seen) for i, item in enumerate(node[key])]
            return _one(types, place)
    if "const" in node or "enum" in node:
        values = [node["const"]] if "const" in node else node["enum"]
        return _one([_type_of(value, place) for value in values], place)
    kinds = _kinds(node, place)
    return _one([_type_of_kind(kind, node, root, place, seen) for kind in kinds], place)


def _kinds(node: Schema, place: str) -> Sequence[str]:
    """The `type` of a schema as a list; inferred from its other keys if it has none."""
    kinds = node.get("type")
    if kinds is None:
        kinds = [kind for kind, key in (("object", "properties"), ("array", "items")) if key in node]
        if not kinds:
            raise ValueError(f"{place} has no type; give it one of object, array, {', '.join(SCALARS)}")
    return [kinds] if isinstance(kinds, str) else kinds


def _type_of_kind(kind: str, node: Schema, root: Schema, place: str, seen: tuple[str, ...]) -> pa.DataType:
    if kind == "array":
        if "prefixItems" in node or not isinstance(node.get("items"), Mapping):
            raise ValueError(f"{place} is an array whose items have no single type; give it items")
        return pa.list_(_type(node["items"], root, f"{place}[]", seen))
    if kind == "object":
        if "patternProperties" in node or isinstance(node.get("additionalProperties"), Mapping):
            raise ValueError(
                f"{place} allows keys of any name, but a struct has fixed fields; list all keys in properties"
            )
        if not node.get("properties"):
            raise ValueError(f"{place} is an object without properties; list its keys in properties")
        fields = {name: _type(item, root, f"{place}.{name}", seen) for name, item in node["properties"].items()}
        return pa.struct(list(fields.items()))
    if kind not in SCALARS:
        raise ValueError(f"{place} has type {kind!r}; types: object, array, {', '.join(SCALARS)}")
    return SCALARS[kind]


def _one(types: Sequence[pa.DataType], place: str) -> pa.DataType:
    """The common type of several alternatives, null ignored; numbers and integers together are numbers."""
    others = list(dict.fromkeys(type_ for type_ in types if not pa.types.is_null(type_)))
    if set(others) == {pa.int64(), pa.float64()}:
        return pa.float64()
    if len(others) > 1:
        raise ValueError(f"{place} may be {' or '.join(map(str, others))}, but a column has one type; choose one")
    return others[0] if others else pa.null()


def _type_of(value: Any, place: str) -> pa.DataType:
    """The type of a value that a schema lists (enum or const)."""
    kinds: list[tuple[Any, pa.DataType]] = [
        (type(None), pa.null()),
        (bool, pa.bool_()),
        (int, pa.int64()),
        (float, pa.float64()),
        (str, pa.string()),
    ]
    for kind, type_ in kinds:
        if isinstance(value, kind):
            return type_
    raise ValueError(f"{place} lists the value {value!r}; only texts, numbers, booleans and null are possible")


def _resolved(reference: str, root: Schema, place: str) -> Any:
    """The part of the schema that a `$ref` points to."""
    node: Any = root
    if reference != "#" and not reference.startswith("#/"):
        raise ValueError(f"{place} refers to {reference!r}, which is outside the schema; copy it into $defs")
    for part in reference.split("/")[1:]:
        part = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(node, Mapping) or part not in node:
            raise ValueError(f"{place} refers to {reference!r}, which is not in the schema; correct the reference")
        node = node[part]
    return node


def _closed(node: Any) -> Any:
    if not isinstance(node, Mapping):
        return node
    found: dict[str, Any] = {}
    for key, value in node.items():
        if key in ("properties", "$defs", "definitions") and isinstance(value, Mapping):
            found[key] = {name: _closed(item) for name, item in value.items()}
        elif key in ("anyOf", "oneOf", "allOf") and isinstance(value, list):
            found[key] = [_closed(item) for item in value]
        else:
            found[key] = _closed(value) if key == "items" else value
    if "properties" in found:
        found["additionalProperties"] = False
    return found
