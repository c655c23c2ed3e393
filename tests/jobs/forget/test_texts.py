"""The texts of rows that are searched for a person."""

import pyarrow as pa
import pytest

from jobs.forget.texts import Texts
from jobs.spec import TaskSpec


@pytest.mark.parametrize("task", ["classify", "ner", "embed"])
def test_a_column_with_a_dot_in_its_name_is_searched(task):
    texts = Texts([TaskSpec(task=task, column="post.text", model="org/model", into="found")])
    rows = pa.record_batch({"id": [1, 2], "post.text": ["by Ada", "by Bob"]})
    assert texts.columns(rows.schema.names) == ["post.text"]
    assert texts.read(rows) == [["by Ada"], ["by Bob"]]


def test_a_field_of_a_struct_is_searched():
    texts = Texts([TaskSpec(task="classify", column="post.text", model="org/model", into="found")])
    rows = pa.record_batch({"post": pa.array([{"text": "by Ada"}, None])})
    assert texts.columns(rows.schema.names) == ["post"]
    assert texts.read(rows) == [["by Ada"], []]
