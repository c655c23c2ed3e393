"""The columns that a task reads."""

import numpy as np
import pyarrow as pa
import pytest

from transforms.options import column_of, with_fields


def test_struct_fields_become_columns_and_any_null_on_the_way_is_null():
    inner = pa.StructArray.from_arrays([pa.array(["a", "b", None])], ["text"], mask=pa.array([False, True, False]))
    outer = pa.StructArray.from_arrays([inner], ["best"], mask=pa.array([False, False, False]))
    batch = pa.record_batch({"answer": outer, "other": pa.array([1, 2, 3])})
    got = with_fields(batch, ["answer.best.text", "other"])
    assert got.schema.names == ["answer", "other", "answer.best.text"]
    assert got["answer.best.text"].to_pylist() == ["a", None, None]
    assert with_fields(batch.slice(1), ["answer.best.text"])["answer.best.text"].to_pylist() == [None, None]


def test_a_column_with_a_dot_in_its_name_is_not_a_struct_field():
    batch = pa.record_batch({"a.b": ["column"], "a": pa.array([{"b": "field"}])})
    assert with_fields(batch, ["a.b"]) is batch


@pytest.mark.parametrize(
    ("path", "names", "column"),
    [
        ("text", ["text"], "text"),
        ("mood.label", ["mood"], "mood"),
        ("mood.v1.label", ["mood.v1"], "mood.v1"),
        ("mood.v1.label", ["mood", "mood.v1"], "mood.v1"),
        ("user.name", ["user.name", "user"], "user.name"),
        ("user.name", [], "user"),
    ],
)
def test_a_path_names_the_longest_column_that_it_begins_with(path, names, column):
    assert column_of(path, names) == column


def test_a_field_of_a_column_with_a_dot_in_its_name_is_read():
    batch = pa.record_batch({"mood.v1": pa.array([{"label": "x"}, None])})
    assert with_fields(batch, ["mood.v1.label"])["mood.v1.label"].to_pylist() == ["x", None]


@pytest.mark.parametrize("rows", [0, 1])
def test_struct_fields_of_few_rows_are_read(rows):
    batch = pa.record_batch({"a": pa.array([{"b": "x"}] * rows, pa.struct([("b", pa.string())]))})
    np.testing.assert_array_equal(with_fields(batch, ["a.b"])["a.b"].to_pylist(), ["x"] * rows)
