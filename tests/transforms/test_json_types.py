"""JSON schemas as Arrow types: one type for everything that is valid, or a sentence that names the place."""

import json

import jsonschema
import pyarrow as pa
import pytest

from transforms.json_types import arrow_type, closed, column

TEXT, WHOLE, NUMBER = {"type": "string"}, {"type": "integer"}, {"type": "number"}


def an_object(**properties):
    return {"type": "object", "properties": properties}


@pytest.mark.parametrize(
    ("schema", "type_"),
    [
        (an_object(a=TEXT, b=WHOLE), pa.struct([("a", pa.string()), ("b", pa.int64())])),
        (an_object(a=NUMBER, b={"type": "boolean"}), pa.struct([("a", pa.float64()), ("b", pa.bool_())])),
        (an_object(a=an_object(b=TEXT)), pa.struct([("a", pa.struct([("b", pa.string())]))])),
        (an_object(a={"type": "array", "items": WHOLE}), pa.struct([("a", pa.list_(pa.int64()))])),
        ({"type": "array", "items": an_object(a=TEXT)}, pa.list_(pa.struct([("a", pa.string())]))),
        ({"properties": {"a": TEXT}}, pa.struct([("a", pa.string())])),
        (an_object(a={"type": ["string", "null"]}), pa.struct([("a", pa.string())])),
        (an_object(a={"anyOf": [WHOLE, {"type": "null"}]}), pa.struct([("a", pa.int64())])),
        (an_object(a={"oneOf": [WHOLE, NUMBER]}), pa.struct([("a", pa.float64())])),
        (an_object(a={"enum": ["x", "y", None]}), pa.struct([("a", pa.string())])),
        (an_object(a={"enum": [1, 2.5]}), pa.struct([("a", pa.float64())])),
        (an_object(a={"const": True}), pa.struct([("a", pa.bool_())])),
        (
            an_object(a={"type": ["object", "null"], "properties": {"b": TEXT}}),
            pa.struct([("a", pa.struct([("b", pa.string())]))]),
        ),
        (an_object(a={"$ref": "#/$defs/t"}) | {"$defs": {"t": TEXT}}, pa.struct([("a", pa.string())])),
        (an_object(a={"$ref": "#/definitions/a~1b"}) | {"definitions": {"a/b": WHOLE}}, pa.struct([("a", pa.int64())])),
        (an_object(properties=an_object(items=TEXT)), pa.struct([("properties", pa.struct([("items", pa.string())]))])),
    ],
)
def test_a_schema_has_the_type_of_its_values(schema, type_):
    assert arrow_type(schema) == type_
    assert arrow_type(closed(schema)) == type_


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "object"}, "$ is an object without properties; list its keys in properties"),
        (an_object(a={}), "$.a has no type; give it one of object, array, string"),
        (an_object(a=True), "$.a is True; give it a type"),
        (an_object(a={"type": "text"}), "$.a has type 'text'; types: object, array, string"),
        (an_object(a={"type": ["string", "integer"]}), "$.a may be string or int64, but a column has one type"),
        (an_object(a={"anyOf": [an_object(b=TEXT), an_object(c=TEXT)]}), "$.a may be struct<b: string> or struct<c"),
        (an_object(a={"enum": ["x", 1]}), "$.a may be string or int64"),
        (an_object(a={"enum": [["x"]]}), "$.a lists the value ['x']; only texts, numbers, booleans and null"),
        (an_object(a={"type": "array"}), "$.a is an array whose items have no single type; give it items"),
        (
            an_object(a={"type": "array", "prefixItems": [TEXT, WHOLE]}),
            "$.a is an array whose items have no single type",
        ),
        (an_object(a={"type": "array", "items": {"type": "array"}}), "$.a[] is an array"),
        ({"type": "object", "additionalProperties": TEXT}, "$ allows keys of any name"),
        ({"type": "object", "patternProperties": {"^a": TEXT}}, "$ allows keys of any name"),
        (an_object(a={"$ref": "#"}), "$.a refers to itself (#)"),
        (
            an_object(a={"$ref": "#/$defs/t"}) | {"$defs": {"t": an_object(b={"$ref": "#/$defs/t"})}},
            "$.a.b refers to itself",
        ),
        (an_object(a={"$ref": "#/$defs/t"}), "$.a refers to '#/$defs/t', which is not in the schema"),
        (
            an_object(a={"$ref": "https://example.org/x"}),
            "$.a refers to 'https://example.org/x', which is outside the schema",
        ),
        (
            an_object(a={"$ref": "#/$defs/t", "properties": {}}) | {"$defs": {"t": TEXT}},
            "$.a has properties beside $ref",
        ),
    ],
)
def test_a_schema_without_a_single_arrow_type_is_refused_with_its_place(schema, complaint):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the message is compared
        arrow_type(schema)
    assert str(raised.value).startswith(complaint)


def test_a_closed_schema_allows_the_named_keys_only_at_every_depth():
    inner = an_object(b=TEXT)
    schema = an_object(a=inner, many={"type": "array", "items": inner}, maybe={"anyOf": [inner, {"type": "null"}]})
    schema["properties"]["shared"] = {"$ref": "#/$defs/inner"}
    schema["$defs"] = {"inner": inner}
    good = {"a": {"b": "x"}, "many": [{"b": "y"}], "maybe": None, "shared": {}}
    validator = jsonschema.Draft202012Validator(closed(schema))
    assert validator.is_valid(good)
    for bad in ({"z": 1}, {"a": {"z": 1}}, {"many": [{"z": 1}]}, {"maybe": {"z": 1}}, {"shared": {"z": 1}}):
        assert jsonschema.Draft202012Validator(schema).is_valid(bad)
        assert not validator.is_valid(bad)


def test_texts_become_a_column_with_null_where_a_key_is_left_out():
    type_ = arrow_type(an_object(a=TEXT, b={"type": "array", "items": NUMBER}))
    got, errors = column(['{"a": "x", "b": [1, 2.5]}', None, "{}", '{"b": []}'], type_)
    assert got.type == type_
    assert got.to_pylist() == [{"a": "x", "b": [1.0, 2.5]}, None, {"a": None, "b": None}, {"a": None, "b": []}]
    assert not errors


def test_a_value_that_does_not_fit_its_type_fails_only_its_row():
    type_ = arrow_type(an_object(a=WHOLE, b=TEXT))
    texts = [json.dumps({"a": n, "b": b}) for n, b in [(1, "x"), (2**70, "y"), (3, "\ud800"), (4, "z")]]
    got, errors = column(texts, type_)
    assert got.to_pylist() == [{"a": 1, "b": "x"}, None, None, {"a": 4, "b": "z"}]
    assert sorted(errors) == [1, 2]
    assert str(errors[1]).startswith("the JSON text does not fit struct<a: int64, b: string>: ")
