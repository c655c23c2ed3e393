"""A JSON key with values of several kinds stops no job: it is JSON text, or rows that do not fit are rejected."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow
from jobs.source.formats import jsonl
from jobs.source.formats.json_marks import is_any
from jobs.source.formats.json_merge import kept, merge
from jobs.spec import SourceSpec
from tests import lake
from transforms.errors import UnreadableSource


def read(path, texts=(), pinned=None, **spec):
    planned, shards = source.plan(SourceSpec(path=str(path), **spec), texts=texts, pinned=pinned)
    items = [item for shard in shards for item in source.read(planned, shard, 64)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    return pa.Table.from_batches(batches, planned.schema), [item for item in items if isinstance(item, BadRow)]


def write(folder, *lines, name="a.jsonl"):
    (folder / name).write_text("".join((each if isinstance(each, str) else json.dumps(each)) + "\n" for each in lines))


def as_text(value):
    return value if value is None or isinstance(value, str) else json.dumps(value)


PAIRS = [
    ({"a": 1}, "word"),
    ({"a": 1}, 5),
    ({"a": 1}, True),
    ({"a": 1}, [1, 2]),
    ([1, 2], "word"),
    ([{"a": 1}], 2.5),
    ([1, "a"], [2]),
    ("word", 5),
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_values_of_two_kinds_in_two_files_are_json_text(tmp_path, one, other):
    write(tmp_path, {"id": 1, "key": one}, name="a.jsonl")
    write(tmp_path, {"id": 2, "key": other}, {"id": 3, "key": None}, name="b.jsonl")
    got, bad = read(tmp_path)
    assert (got["key"].to_pylist(), bad) == ([as_text(one), as_text(other), None], [])
    assert got.schema.field("key") == pa.field("key", pa.string())


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_values_of_two_kinds_in_one_file_are_json_text(tmp_path, one, other):
    write(tmp_path, {"id": 1, "key": one}, {"id": 2, "key": other})
    got, bad = read(tmp_path)
    assert (got["key"].to_pylist(), bad) == ([as_text(one), as_text(other)], [])


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_values_of_another_kind_after_the_head_of_a_file_are_rejected_or_text(tmp_path, monkeypatch, one, other):
    monkeypatch.setattr(jsonl, "SAMPLE_BYTES", 100)
    write(tmp_path, *[{"id": 1, "key": one}] * 20, {"id": 2, "key": other}, {"id": 3, "key": one})
    got, bad = read(tmp_path)
    assert len(got) + len(bad) == 22
    assert got["id"].to_pylist()[-1] == 3
    assert [(row.row, row.column.split("[")[0], row.values["id"][0].as_py()) for row in bad] in ([], [(21, "key", 2)])


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_values_of_two_kinds_below_an_object_are_json_text_at_that_level(tmp_path, one, other):
    write(tmp_path, {"about": {"n": 1, "key": one}}, name="a.jsonl")
    write(tmp_path, {"about": {"key": other, "more": "x"}}, name="b.jsonl")
    got, bad = read(tmp_path)
    assert bad == []
    assert got["about"].to_pylist() == [
        {"n": 1, "key": as_text(one), "more": None},
        {"n": None, "key": as_text(other), "more": "x"},
    ]


def test_a_key_that_is_null_in_one_file_has_the_type_of_the_other(tmp_path):
    write(tmp_path, {"key": None}, name="a.jsonl")
    write(tmp_path, {"key": {"a": 1}}, name="b.jsonl")
    assert read(tmp_path)[0]["key"].to_pylist() == [None, {"a": 1}]


def test_text_of_finished_rows_stays_text_where_a_new_file_has_objects(tmp_path):
    write(tmp_path, {"key": {"a": 1.10}})
    got, bad = read(tmp_path, pinned={"key": pa.string()})
    assert (got["key"].to_pylist(), bad) == (['{"a": 1.1}'], [])


def test_structs_of_finished_rows_stay_structs_and_other_values_are_rejected(tmp_path):
    pinned = {"key": pa.struct([("a", pa.int64())])}
    write(tmp_path, {"id": 1, "key": {"a": 1}}, name="a.jsonl")
    write(tmp_path, {"id": 2, "key": "word"}, {"id": 3, "key": {"a": 3, "b": "new"}}, name="b.jsonl")
    got, (bad,) = read(tmp_path, pinned=pinned)
    assert got["key"].to_pylist() == [{"a": 1, "b": None}, {"a": 3, "b": "new"}]
    assert (bad.row, bad.column, bad.error_type) == (1, "key", "InvalidValue")


def test_text_inside_structs_of_finished_rows_still_takes_numbers(tmp_path):
    pinned = {"key": pa.struct([("n", pa.string())])}
    write(tmp_path, '{"key": {"n": 1}}', '{"key": {"n": 1.0}}', '{"key": "word"}')
    got, bad = read(tmp_path, pinned=pinned)
    assert got["key"].to_pylist() == [{"n": "1"}, {"n": "1.0"}]
    assert [row.row for row in bad] == [3]


def test_a_number_of_finished_rows_stays_a_number_where_a_new_file_has_objects(tmp_path):
    write(tmp_path, {"key": 1}, name="a.jsonl")
    write(tmp_path, {"key": {"a": 1}}, name="b.jsonl")
    got, bad = read(tmp_path, pinned={"key": pa.int64()})
    assert (got["key"].to_pylist(), [row.column for row in bad]) == ([1], ["key"])


@pytest.mark.parametrize("files", [1, 2])
def test_a_key_of_which_a_task_reads_a_field_stays_a_struct(tmp_path, files):
    write(tmp_path, {"key": {"text": "good", "n": 1}}, *[{"key": "word"}] * (files == 1), name="a.jsonl")
    write(tmp_path, {"key": {"text": "bad", "n": 2}}, *[{"key": [1]}] * (files == 2), name="b.jsonl")
    got, bad = read(tmp_path, texts={"key.text"})
    assert got["key"].to_pylist() == [{"text": "good", "n": 1}, {"text": "bad", "n": 2}]
    assert [row.error_type for row in bad] == ["InvalidValue"]


def test_objects_beside_the_text_of_a_csv_are_text(tmp_path):
    (tmp_path / "a.csv").write_text("id,key\n1,word\n2,7\n")
    write(tmp_path, {"id": 3, "key": {"a": 1}}, {"id": 4, "key": {"a": 2}}, name="b.jsonl")
    got, bad = read(tmp_path)
    assert (got["key"].to_pylist(), bad) == (["word", "7", '{"a": 1}', '{"a": 2}'], [])


def test_numbers_beside_the_text_of_a_csv_are_text_where_a_task_reads_text(tmp_path):
    (tmp_path / "a.csv").write_text("key\nword\n")
    write(tmp_path, {"key": 5}, name="b.jsonl")
    assert read(tmp_path, texts={"key"})[0]["key"].to_pylist() == ["word", "5"]


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string()])
def test_objects_beside_the_text_of_a_parquet_file_are_text(tmp_path, type_):
    pq.write_table(pa.table({"key": pa.array(["word"], type_)}), tmp_path / "a.parquet")
    write(tmp_path, {"key": {"a": 1}}, name="b.jsonl")
    got, bad = read(tmp_path)
    assert (got["key"].to_pylist(), bad) == (["word", '{"a": 1}'], [])


@pytest.mark.parametrize(("declared", "value"), [({"a": 1}, "word"), (5, {"a": 1}), ([1], {"a": 1}), (5, "word")])
def test_values_that_do_not_fit_the_type_of_a_parquet_file_are_rejected(tmp_path, declared, value):
    pq.write_table(pa.table({"key": [declared]}), tmp_path / "b.parquet")
    write(tmp_path, {"key": value}, name="a.jsonl")
    got, (bad,) = read(tmp_path)
    assert (got["key"].to_pylist(), bad.column, bad.row) == ([declared], "key", 1)


def test_objects_of_which_a_task_reads_a_field_are_refused_beside_a_csv(tmp_path):
    (tmp_path / "a.csv").write_text("key\nword\n")
    write(tmp_path, {"key": {"text": "good"}}, name="b.jsonl")
    with pytest.raises(UnreadableSource, match=r"a.csv does not fit the other files: column 'key' is struct"):
        read(tmp_path, texts={"key.text"})


def test_a_job_goes_on_when_a_later_file_has_a_key_of_another_kind(tmp_path, models):
    folder = tmp_path / "in"
    folder.mkdir()
    write(folder, {"id": "a", "text": "good", "key": "word"}, name="a.jsonl")
    lake.execute(lake.job(folder, tmp_path / "out", models))
    write(folder, {"id": "b", "text": "bad", "key": {"a": 1}}, name="b.jsonl")
    report = lake.execute(lake.job(folder, tmp_path / "out", models))
    assert (report.rows_out, report.rows_rejected) == (1, 0)
    assert sorted(lake.read(tmp_path / "out")["key"].to_pylist()) == ["word", '{"a": 1}']


types = st.recursive(
    st.sampled_from([pa.null(), pa.int64(), pa.float64(), pa.bool_(), pa.string()]),
    lambda inner: (
        inner.map(pa.list_) | st.dictionaries(st.sampled_from("ab"), inner).map(lambda d: pa.struct([*d.items()]))
    ),
    max_leaves=6,
)


@settings(max_examples=200)
@given(types, types)
def test_two_types_merge_to_the_same_type_in_either_order(one, other):
    fields = pa.field("key", one), pa.field("key", other)
    merged = merge(*fields)
    assert is_any(merged) == is_any(merge(*reversed(fields)))
    assert merge(merged, fields[1]).type == merged.type
    assert merge(fields[0], fields[0]).type == one


@settings(max_examples=200)
@given(types, types)
def test_finished_rows_keep_their_kind(pinned, found):
    field = kept(pa.field("key", pinned), pa.field("key", found), (), "key")
    assert field.type.id == (found if pa.types.is_null(pinned) else pinned).id
