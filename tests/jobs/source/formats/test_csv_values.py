"""Cells of a CSV come out as they stand in the file: as a type that prints back, as text, or as a rejected row."""

import datetime
import decimal
import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow
from jobs.source.formats import csv, csv_values
from jobs.spec import SourceSpec
from transforms.errors import SpecError, UnreadableSource


def read(path, texts=(), pinned=None, **keys):
    planned, shards = source.plan(SourceSpec(path=str(path), **keys), texts=texts, pinned=pinned)
    items = [item for shard in shards for item in source.read(planned, shard, 64)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    return pa.Table.from_batches(batches, planned.schema), [item for item in items if isinstance(item, BadRow)]


@pytest.mark.parametrize(
    ("cells", "type_"),
    [
        (["1", "0", "-25", ""], pa.int64()),
        (["9223372036854775807", "-9223372036854775808"], pa.int64()),
        (["1.5", "0.25", "-3.0", "", "0.0"], pa.float64()),
        (["0.30000000000000004", "123456789.12345679"], pa.float64()),
        (["true", "", "false"], pa.bool_()),
        (["01", "2"], pa.string()),
        (["-0", "1"], pa.string()),
        (["+5", "1"], pa.string()),
        ([" 5", "6"], pa.string()),
        (["0x1F", "2"], pa.string()),
        (["9223372036854775808", "1"], pa.string()),
        (["1E5", "2E3"], pa.string()),
        (["00000e12", "12345e67"], pa.string()),
        (["1.10", "1.20"], pa.string()),
        (["1", "1.5"], pa.string()),
        ([".5", "1.5"], pa.string()),
        (["5.", "1.5"], pa.string()),
        (["01.5", "1.5"], pa.string()),
        (["0.00001", "1.5"], pa.string()),
        (["1,5", "2,5"], pa.string()),
        (["1_000", "2"], pa.string()),
        (["nan", "inf"], pa.string()),
        (["0.1000000000000000055", "1.5"], pa.string()),
        (["NA", "1"], pa.string()),
        (["null", "1"], pa.string()),
        (["True", "False"], pa.string()),
        (["TRUE", "false"], pa.string()),
        (["2024-01-01", "2024-12-31"], pa.string()),
        (["2024-01-01 10:00:00", "2024-01-01T10:00:00Z"], pa.string()),
        (["12:30:00", "12:31:00"], pa.string()),
        (["12:30", "9:31"], pa.string()),
        (["", ""], pa.string()),
        (["١", "٢"], pa.string()),
    ],
)
def test_a_column_has_a_type_only_if_every_cell_prints_back(tmp_path, cells, type_):
    lines = [f'{i},"{cell}"' for i, cell in enumerate(cells)]
    (tmp_path / "a.csv").write_text("\n".join(["id,value", *lines]) + "\n")
    got, bad = read(tmp_path)
    assert (got.schema.field("value").type, bad) == (type_, [])
    assert [_printed(value) for value in got["value"].to_pylist()] == cells


def _printed(value):
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


number = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.floats().map(repr),
    st.decimals(allow_nan=False, allow_infinity=False).map(str),
    st.text("0123456789.-+eE", min_size=1, max_size=20),
    st.sampled_from(["true", "false", "True", "", "0.0", "-0.0", "1.50"]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(number, min_size=1, max_size=5))
def test_values_of_a_guessed_type_print_as_the_text_in_the_file(cells):
    array = pa.array([cell.encode() for cell in cells], pa.binary())
    type_ = csv_values.guess(array)
    assert pa.types.is_null(type_) == (not any(cells))
    # A column without any value is text.
    type_ = pa.string() if pa.types.is_null(type_) else type_
    batch = pa.RecordBatch.from_arrays([array], ["a"])
    (got,) = csv_values.convert(batch, range(1, 99), pa.schema([("a", type_)]), (), ",")
    assert [_printed(value) for value in got["a"].to_pylist()] == cells


def test_a_later_cell_that_does_not_print_back_rejects_its_row_and_keeps_its_columns(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 64)
    rows = [f"{i},{10000 + i},text {i}" for i in range(40)] + ["40,01234,text 40", "41,many,text 41"]
    (tmp_path / "a.csv").write_text("id,zip,text\n" + "\n".join(rows) + "\n")
    got, bad = read(tmp_path)
    assert got.schema.field("zip").type == pa.int64()
    assert got["id"].to_pylist() == list(range(40))
    assert [(row.row, row.column, row.raw) for row in bad] == [
        (41, "zip", "40,01234,text 40"),
        (42, "zip", "41,many,text 41"),
    ]
    assert bad[0].message == (
        "column 'zip': '01234' would not be kept exactly as int64; "
        "set source.types: {zip: string} to read the column as text"
    )
    assert bad[0].values.to_pylist() == [{"id": 40, "text": "text 40"}]
    got, bad = read(tmp_path, types={"zip": "string"})
    assert (got["zip"].to_pylist()[-2:], bad) == (["01234", "many"], [])


def test_a_row_with_two_wrong_cells_is_one_rejected_row(tmp_path):
    (tmp_path / "a.csv").write_text("a,b,c\n1,2,x\none,two,y\n")
    got, bad = read(tmp_path, types={"a": "int64", "b": "int64"})
    assert len(got) == 1
    assert [(row.row, row.column, row.values.to_pylist()) for row in bad] == [(2, "a", [{"c": "y"}])]


def test_record_numbers_count_ragged_records_and_records_over_several_lines(tmp_path):
    (tmp_path / "a.csv").write_text('n,text\n1,"two\nlines"\n\n2\n3,c\nx,d\n5,e,f\ny,g\n')
    _, bad = read(tmp_path, types={"n": "int64"})
    assert sorted((row.row, row.error_type) for row in bad) == [
        (2, "RaggedLine"),
        (4, "InvalidValue"),
        (5, "RaggedLine"),
        (6, "InvalidValue"),
    ]


def test_the_job_file_names_types(tmp_path):
    (tmp_path / "a.csv").write_text(
        "i,d,b,day,at,zoned,time,amount,s,f\n7, 1.50 ,TRUE,2024-02-29,2024-01-01 10:00:00,2024-01-01T10:00:00+02:00,"
        "12:30:05,1.5,01,2.5\nNA,,,,,,,,,\n"
    )
    names = {
        "i": "int16",
        "d": "double",
        "b": "bool",
        "day": "date32",
        "at": "timestamp[ms]",
        "zoned": "timestamp[us, UTC]",
        "time": "time32[s]",
        "amount": "decimal128(10,2)",
        "s": "string",
        "f": "float",
    }
    got, bad = read(tmp_path, types=names)
    assert bad == []
    assert got.to_pylist()[0] == {
        "i": 7,
        "d": 1.5,
        "b": True,
        "day": datetime.date(2024, 2, 29),
        "at": datetime.datetime(2024, 1, 1, 10),
        "zoned": datetime.datetime(2024, 1, 1, 8, tzinfo=datetime.UTC),
        "time": datetime.time(12, 30, 5),
        "amount": decimal.Decimal("1.50"),
        "s": "01",
        "f": 2.5,
    }
    assert got.to_pylist()[1] == dict.fromkeys(names) | {"s": ""}
    assert got.schema.field("i").type == pa.int16()


@pytest.mark.parametrize(
    ("type_", "cell"),
    [
        ("int8", "300"),
        ("date32", "29.02.2024"),
        ("double", "1,5"),
        ("double", "1e999"),
        ("decimal128(4, 1)", "1.25"),
        ("time32[s]", "noon"),
        ("timestamp[us, UTC]", "2024-01-01 10:00:00"),
    ],
)
def test_a_cell_that_is_no_value_of_the_named_type_rejects_its_row(tmp_path, type_, cell):
    (tmp_path / "a.csv").write_text(f'id,x\n1,"{cell}"\n2,\n')
    got, bad = read(tmp_path, types={"x": type_})
    assert (got["id"].to_pylist(), [(row.row, row.column) for row in bad]) == ([2], [(1, "x")])


@pytest.mark.parametrize(
    ("types", "expected"),
    [
        ({"x": "str"}, "source.types.x is 'str', which is not a type of a column; types: string, bool, int8"),
        ({"x": "decimal128(99, 2)"}, "source.types.x is 'decimal128"),
        ({"x": "timestamp[us, Mars]"}, "source.types.x is 'timestamp"),
        ({"y": "string"}, "source.types: 'y' is not in the files; columns: id, x"),
    ],
)
def test_types_and_columns_that_do_not_exist_are_refused(tmp_path, types, expected):
    (tmp_path / "a.csv").write_text("id,x\n1,2\n")
    with pytest.raises(SpecError, match=expected.replace("[", r"\[")):
        read(tmp_path, types=types)


def test_types_of_parquet_files_are_cast_where_nothing_is_lost_and_refused_elsewhere(tmp_path):
    pq.write_table(pa.table({"n": pa.array([1, 2], pa.int32()), "t": ["a", "b"]}), tmp_path / "a.parquet")
    assert read(tmp_path, types={"n": "string"})[0]["n"].to_pylist() == ["1", "2"]
    assert read(tmp_path, types={"n": "int64"})[0].schema.field("n").type == pa.int64()
    with pytest.raises(SpecError, match=r"'n' is int32 in .*a.parquet, which does not convert to int16 without loss"):
        read(tmp_path, types={"n": "int16"})
    with pytest.raises(SpecError, match=r"'t' is string in .*, which does not convert to int64 without loss"):
        read(tmp_path, types={"t": "int64"})


def test_a_column_with_different_guessed_types_is_text_in_all_files(tmp_path):
    (tmp_path / "a.csv").write_text("n,m\n1,1\n")
    (tmp_path / "b.csv").write_text("n,m\n01,2.5\n")
    assert read(tmp_path)[0].to_pylist() == [{"n": "1", "m": "1"}, {"n": "01", "m": "2.5"}]


@pytest.mark.parametrize("empty", ["n,t\n,x\n", "n,t\n"])
def test_a_column_that_is_empty_in_one_file_has_the_type_of_the_others(tmp_path, empty):
    (tmp_path / "a.csv").write_text(empty)
    assert read(tmp_path)[0].schema.field("n").type == pa.string()
    (tmp_path / "b.csv").write_text("n,t\n5,y\n")
    got, bad = read(tmp_path)
    assert (got["n"].to_pylist()[-1], got["n"].null_count, bad) == (5, len(got) - 1, [])
    # Finished rows that have it as text keep it so.
    assert read(tmp_path, pinned={"n": pa.string()})[0]["n"].to_pylist()[-1] == "5"


def test_a_later_file_does_not_change_a_pinned_type(tmp_path):
    (tmp_path / "a.csv").write_text("n,t\n1,x\n")
    pinned = dict(zip(["n", "t"], [pa.int64(), pa.string()], strict=True))
    (tmp_path / "b.csv").write_text("n,t\nword,5\n2,6\n")
    got, bad = read(tmp_path, pinned=pinned)
    assert got.to_pylist() == [{"n": 1, "t": "x"}, {"n": 2, "t": "6"}]
    assert [(row.row, row.column) for row in bad] == [(1, "n")]
    # What the job file says and what a task reads as text come first.
    assert read(tmp_path, pinned=pinned, types={"n": "string"})[0]["n"].to_pylist() == ["1", "word", "2"]
    assert read(tmp_path, pinned=pinned, texts={"n"})[0]["n"].to_pylist() == ["1", "word", "2"]


def test_a_type_that_other_files_declare_holds_for_csv_too(tmp_path):
    pq.write_table(pa.table({"price": [2.5]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("price\n1\n1.50\nfree\n")
    got, bad = read(tmp_path)
    assert got["price"].to_pylist() == [2.5, 1.0, 1.5]
    assert [(row.row, row.column, row.raw) for row in bad] == [(3, "price", "free")]


def test_a_struct_of_another_file_is_refused_for_the_csv_that_cannot_hold_it(tmp_path):
    pq.write_table(pa.table({"about": [{"a": 1}]}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("about\n1\n")
    with pytest.raises(UnreadableSource, match=r"b.csv does not fit the other files: column 'about' is struct"):
        read(tmp_path)


def test_columns_that_are_not_selected_are_not_compared(tmp_path):
    pq.write_table(pa.table({"id": [1], "x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"id": [2], "x": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(UnreadableSource, match=r"b.parquet does not fit .* column 'x' is string there and int64 in"):
        read(tmp_path)
    assert read(tmp_path, columns=["id"])[0]["id"].to_pylist() == [1, 2]


def test_a_file_without_the_selected_columns_still_has_its_rows(tmp_path):
    (tmp_path / "a.csv").write_text("id,x\n1,5\n2,6\n")
    (tmp_path / "b.csv").write_text("y\n7\n8\n")
    got, bad = read(tmp_path, columns=["id"])
    assert (got["id"].to_pylist(), bad) == ([1, 2, None, None], [])


def test_a_plan_survives_json_with_its_types(tmp_path):
    (tmp_path / "a.csv").write_text("n\n1.50\n")
    planned, shards = source.plan(SourceSpec(path=str(tmp_path), types={"n": "decimal128(5, 2)"}))
    again = source.Source.from_json(planned.to_json())
    (batch,) = source.read(again, shards[0], 8)
    assert batch["n"].to_pylist() == [decimal.Decimal("1.50")]


def test_record_ends_are_found_in_another_dialect():
    text = b"a;b\n'x\ny';1\n2;3\n"
    assert csv.record_ends(io.BytesIO(text), 1, ";", "'") == [4, 12, 16]
