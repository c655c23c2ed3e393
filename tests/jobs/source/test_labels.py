"""Numbers of labels become names, also in lists and structs; a number that no label has rejects its row."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow, labels
from jobs.spec import SourceSpec
from transforms.errors import SpecError

NAMES = ["no", "yes"]


def named(values, type_, names, columns=("a",)) -> list:
    batch = pa.record_batch([pa.array(values, type_)], list(columns))
    return [item if isinstance(item, BadRow) else item.column(0).to_pylist() for item in labels.named(batch, names)]


def test_numbers_become_names_and_those_without_a_label_null():
    assert named([1, 0, None, -1], pa.int8(), {"a": NAMES}) == [["yes", "no", None, None]]


def test_numbers_in_lists_and_structs_become_names():
    assert named([[1, 0], None, []], pa.list_(pa.int64()), {"a": NAMES}) == [[["yes", "no"], None, []]]
    type_ = pa.struct([("b", pa.large_list(pa.struct([("c", pa.int32())]))), ("d", pa.int8())])
    found = named([{"b": [{"c": 0}, {"c": None}], "d": 1}, None], type_, {"a.b.c": NAMES})
    assert found == [[{"b": [{"c": "no"}, {"c": None}], "d": 1}, None]]


def test_a_number_that_no_label_has_rejects_its_row_alone():
    first, bad, rest = named([0, 7, 1], pa.int64(), {"a": NAMES})
    assert (first, rest) == (["no"], ["yes"])
    assert (bad.error_type, bad.column, bad.raw) == ("UnknownLabel", "a", "7")
    assert bad.message == "a: 7 has a label beyond 1 (yes)"
    first, bad = named([[0], [0, 2]], pa.list_(pa.int64()), {"a": NAMES})
    assert first == [["no"]]
    assert bad.raw == "[0, 2]"


def test_names_and_numbers_as_text_are_taken_as_they_are_meant():
    first, bad, rest = named(["yes", "0", "maybe", None, ""], pa.string(), {"a": NAMES})
    assert (first, rest) == (["yes", "no"], [None, None])
    assert bad.raw == "maybe"


@given(st.lists(st.none() | st.lists(st.none() | st.integers(-1, 3), max_size=4), max_size=12), st.data())
def test_a_slice_has_the_names_of_its_own_rows(values, data):
    start = data.draw(st.integers(0, len(values)))
    batch = pa.record_batch({"a": pa.array(values, pa.list_(pa.int16()))}).slice(start)
    found = [
        row
        for item in labels.named(batch, {"a": ["p", "q", "r"]})
        for row in ([item.raw] if isinstance(item, BadRow) else item.column(0).to_pylist())
    ]
    names = {-1: None, None: None, 0: "p", 1: "q", 2: "r"}
    wanted = [
        row if row is None else str(row) if 3 in row else [names[number] for number in row] for row in values[start:]
    ]
    assert found == wanted


def test_the_features_of_a_dataset_name_the_labels():
    label = {"names": NAMES, "_type": "ClassLabel"}
    features = {
        "text": {"dtype": "string", "_type": "Value"},
        "label": label,
        "many": {"feature": label, "_type": "List"},
        "old": [{"inner": label}],
        "pair": {"left": label, "right": {"dtype": "int8", "_type": "Value"}},
        "unnamed": {"num_classes": 2, "_type": "ClassLabel"},
    }
    assert labels.of_features(features) == dict.fromkeys(["label", "many", "old.inner", "pair.left"], NAMES)


@pytest.fixture
def path(tmp_path):
    pq.write_table(pa.table({"text": ["a", "b", "c"], "stars": [0, 1, 5]}), tmp_path / "x.parquet")
    return str(tmp_path / "x.parquet")


def test_labels_of_the_job_file_apply_to_any_file_and_before_the_condition(path):
    planned, shards = source.plan(SourceSpec(path=path, labels={"stars": NAMES}, where="stars = 'yes'"))
    items = list(source.read(planned, shards[0], 10))
    bad = [item for item in items if isinstance(item, BadRow)]
    rows = [row for item in items if not isinstance(item, BadRow) for row in item.to_pylist()]
    assert rows == [{"text": "b", "stars": "yes"}]
    assert [each.error_type for each in bad] == ["UnknownLabel"]
    assert planned.schema.field("stars").type == pa.string()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"no": NAMES}, "source.labels: 'no' is not in the source; columns: text, stars"),
        ({"stars.x": NAMES}, "source.labels: 'stars.x' is inside of 'stars', which is int64"),
    ],
)
def test_labels_of_a_column_that_has_none_are_refused(path, wrong, message):
    with pytest.raises(SpecError) as caught:
        source.plan(SourceSpec(path=path, labels=wrong))
    assert str(caught.value).startswith(message)


def test_two_labels_of_one_name_are_refused():
    with pytest.raises(ValueError, match="names 'no' twice for 'a'; give each label its own name"):
        SourceSpec(path="x", labels={"a": ["no", "no"]})
