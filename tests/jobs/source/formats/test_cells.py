"""Parquet and Arrow files: a cell that is not UTF-8 or does not fit rejects its row; every value comes back exactly."""

import datetime as dt
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow
from jobs.source.formats import parquet
from jobs.spec import SourceSpec
from tests import lake
from transforms.errors import SourceError, UserError

IDS = pa.array([1, 2, 3])


def read(path, batch_rows=64, **spec):
    planned, shards = source.plan(SourceSpec(path=str(path), **spec))
    items = [item for shard in shards for item in source.read(planned, shard, batch_rows)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    return pa.Table.from_batches(batches, planned.schema), [item for item in items if isinstance(item, BadRow)]


def write_stream(table, path, kind=pa.ipc.new_file, **options):
    with pa.OSFile(str(path), "wb") as stream, kind(stream, table.schema, **options) as writer:
        writer.write_table(table)


def broken(*values):
    """Strings of those bytes, unchecked."""
    return pa.array(values, pa.binary()).view(pa.string())


TEXT = broken(b"first", b"\xfe\xff", b"third")
INDICES = pa.array([0, 1, 2], pa.int8())
VIEW = pa.Array.from_buffers(pa.string_view(), 3, TEXT.view(pa.binary()).cast(pa.binary_view()).buffers())
TEXTS = {
    "string": TEXT,
    "large_string": TEXT.view(pa.binary()).cast(pa.large_binary()).view(pa.large_string()),
    "string_view": VIEW,
    "dictionary": pa.DictionaryArray.from_arrays(INDICES, TEXT),
    "list": pa.ListArray.from_arrays([0, 1, 2, 3], TEXT),
    "list of views": pa.ListArray.from_arrays([0, 1, 2, 3], VIEW),
    "list of dictionaries": pa.ListArray.from_arrays([0, 1, 2, 3], pa.DictionaryArray.from_arrays(INDICES, TEXT)),
    "list of structs": pa.ListArray.from_arrays([0, 1, 2, 3], pa.StructArray.from_arrays([TEXT], ["a"])),
    "fixed size list": pa.FixedSizeListArray.from_arrays(TEXT, 1),
    "list view": pa.ListViewArray.from_arrays([0, 1, 2], [1, 1, 1], TEXT),
    "struct": pa.StructArray.from_arrays([IDS, TEXT], ["n", "t"]),
    "map key": pa.MapArray.from_arrays([0, 1, 2, 3], TEXT, IDS),
    "map value": pa.MapArray.from_arrays([0, 1, 2, 3], IDS, TEXT),
    "json": pa.ExtensionArray.from_storage(pa.json_(), TEXT),
}


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
@pytest.mark.parametrize("kind", TEXTS)
def test_text_that_is_not_utf8_rejects_its_row_and_no_other(tmp_path, kind, ending):
    table = pa.table({"id": IDS, "text": TEXTS[kind]})
    if ending == "parquet":
        pq.write_table(table, tmp_path / "a.parquet")
    else:
        write_stream(table, tmp_path / "a.arrow")
    got, (bad,) = read(tmp_path)
    assert got["id"].to_pylist() == [1, 3]
    assert (bad.error_type, bad.row, bad.column) == ("InvalidUTF8", 2, "text")
    assert bad.values.to_pylist() == [{"id": 2, "text": None}]
    got.validate(full=True)


def test_binary_that_is_no_text_stays_binary(tmp_path):
    pq.write_table(pa.table({"raw": pa.array([b"\xfe", b"a"])}), tmp_path / "a.parquet")
    assert read(tmp_path)[0]["raw"].to_pylist() == [b"\xfe", b"a"]


def test_row_numbers_count_from_the_beginning_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 20)
    values = [b"fine"] * 100
    values[77] = b"\xff"
    pq.write_table(pa.table({"text": broken(*values)}), tmp_path / "a.parquet", row_group_size=10)
    got, (bad,) = read(tmp_path, batch_rows=7)
    assert (len(got), bad.row, bad.raw) == (99, 78, r"\xff")


def test_a_job_with_bad_text_ends_with_the_other_rows_and_one_rejected_row(tmp_path, models):
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"id": IDS, "text": TEXT}), tmp_path / "in/a.parquet")
    report = lake.execute(lake.job(tmp_path / "in", tmp_path / "out", models, errors={"max_fraction": 0.5}))
    assert (report.rows_out, report.rows_rejected) == (2, 1)
    (row,) = lake.rejected(tmp_path / "out").to_pylist()
    assert (row["id"], row["_error_type"], row["_row"], row["_column"]) == (2, "InvalidUTF8", 2, "text")


def test_dates_of_96_bits_are_read_past_the_range_of_nanoseconds(tmp_path):
    days = [dt.datetime(1, 1, 1), dt.datetime(1500, 6, 1, 12), dt.datetime(2024, 3, 1), dt.datetime(9999, 12, 31)]
    table = pa.table({"day": pa.array(days, pa.timestamp("us"))})
    pq.write_table(table, tmp_path / "a.parquet", use_deprecated_int96_timestamps=True)
    assert read(tmp_path)[0]["day"].to_pylist() == days


EXACT = {
    "decimal256": pa.array([Decimal("1" * 50), None]),
    "halffloat": pa.array([1.5, None], pa.float16()),
    "time64[ns]": pa.array([1, None], pa.time64("ns")),
    "timestamp[ns]": pa.array([1, None], pa.timestamp("ns", "Asia/Tokyo")),
    "duration": pa.array([5, None], pa.duration("ns")),
    "fixed size list": pa.array([[1, 2], None], pa.list_(pa.int8(), 2)),
    "nested fixed size list": pa.array([{"v": [1, 2]}, {"v": None}], pa.struct([("v", pa.list_(pa.int8(), 2))])),
    "map": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
    "null": pa.nulls(2),
    "uuid": pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0123456789abcdef", None], pa.binary(16))),
    "string_view": pa.array(["x", None], pa.string_view()),
    "binary_view": pa.array([b"x", None], pa.binary_view()),
    "list view": pa.array([["x", "y"], None], pa.list_view(pa.string())),
    "dictionary of numbers": pa.array([7, None]).dictionary_encode(),
    "dictionary of views": pa.DictionaryArray.from_arrays(pa.array([0, None]), pa.array(["x"], pa.string_view())),
    "run-end encoded": pa.RunEndEncodedArray.from_arrays(pa.array([1, 2], pa.int32()), pa.array(["x", None])),
}


@pytest.mark.parametrize("kind", EXACT)
def test_values_of_every_type_pass_a_condition_and_are_written_as_they_were(tmp_path, kind):
    table = pa.table({"id": [1, 2], "x": EXACT[kind]})
    write_stream(table, tmp_path / "a.arrow")
    got, bad = read(tmp_path, where="id < 5")
    assert bad == []
    pq.write_table(got, tmp_path / "written.parquet")
    column = EXACT[kind].storage if isinstance(EXACT[kind], pa.ExtensionArray) else EXACT[kind]
    assert got["x"].to_pylist() == column.to_pylist()
    assert pq.read_table(tmp_path / "written.parquet")["x"].to_pylist() == column.to_pylist()
    assert len(read(tmp_path / "a.arrow", where="id = 2")[0]) == 1


def test_list_views_in_any_order_keep_their_values(tmp_path):
    lists = pa.ListViewArray.from_arrays([1, 0, 0], [1, 1, 2], pa.array(["p", "q"]))
    write_stream(pa.table({"x": lists}), tmp_path / "a.arrow")
    assert read(tmp_path)[0]["x"].to_pylist() == [["q"], ["p"], ["p", "q"]]


@pytest.mark.parametrize("ending", ["parquet", "arrow"])
def test_a_repeated_column_name_is_reported_unless_it_is_left_out(tmp_path, ending):
    table = pa.Table.from_arrays([IDS, IDS, pa.array(["a", "b", "c"])], names=["n", "n", "text"])
    pq.write_table(table, tmp_path / "a.parquet") if ending == "parquet" else write_stream(table, tmp_path / "a.arrow")
    with pytest.raises(
        UserError, match=r"two columns 'n'; rename one of them, or name the wanted columns in source.columns"
    ):
        read(tmp_path)
    assert read(tmp_path, columns=["text"])[0]["text"].to_pylist() == ["a", "b", "c"]


def test_files_whose_types_differ_are_widened_and_a_value_that_does_not_fit_is_a_rejected_row(tmp_path):
    us, ns = pa.timestamp("us"), pa.timestamp("ns")
    days = [dt.datetime(2024, 3, 1), dt.datetime(9999, 12, 31)]
    rows = pa.table(
        {
            "n": pa.array([1, 2], pa.int32()),
            "d": pa.array([Decimal("1.5"), None], pa.decimal128(5, 2)),
            "t": pa.array(days, us),
            "s": pa.array(["x", "y"]).dictionary_encode(),
            "l": pa.array([["a"], None]),
            "more": ["only", "here"],
        }
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    other = pa.table(
        {
            "n": pa.array([2**40], pa.int64()),
            "d": pa.array([Decimal("123.4567")], pa.decimal128(12, 4)),
            "t": pa.array([days[0]], ns),
            "s": ["z"],
            "l": pa.array([["b"]], pa.large_list(pa.string())),
        }
    )
    pq.write_table(other, tmp_path / "b.parquet")
    got, (bad,) = read(tmp_path)
    assert got["n"].to_pylist() == [1, 2**40]
    assert got["d"].to_pylist() == [Decimal("1.5000"), Decimal("123.4567")]
    assert got["s"].to_pylist() == ["x", "z"]
    assert got["l"].to_pylist() == [["a"], ["b"]]
    assert got["more"].to_pylist() == ["only", None]
    assert (bad.error_type, bad.row, bad.column, bad.values["n"][0].as_py()) == ("InvalidValue", 2, "t", 2)


def test_a_damaged_page_is_reported_by_row_group_and_column(tmp_path):
    table = pa.table({"id": list(range(300)), "text": [f"text number {i}" for i in range(300)]})
    file = tmp_path / "a.parquet"
    pq.write_table(table, file, row_group_size=100, compression="zstd", use_dictionary=False)
    column = pq.read_metadata(file).row_group(1).column(1)
    data = bytearray(file.read_bytes())
    start = column.data_page_offset
    data[start + 40 : start + column.total_compressed_size] = b"\xff" * (column.total_compressed_size - 40)
    file.write_bytes(data)
    with pytest.raises(SourceError, match=r"column 'text' of row group 1 \(rows 101 to 200\) is damaged"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.parquet", b"", "is not a readable parquet file: it has 0 bytes"),
        ("a.parquet", b"PAR1" + b"x" * 100, "is not a readable parquet file: its footer is damaged or cut off"),
        ("a.arrow", b"", "is not a readable arrow file"),
        ("a.feather", b"FEA1" + b"x" * 100 + b"FEA1", "Feather file of version 1"),
    ],
)
def test_a_file_of_another_format_is_reported_by_name_without_the_message_of_a_library(
    tmp_path, name, content, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=message):
        read(tmp_path)


def test_a_stream_without_an_end_mark_is_read_and_one_cut_off_is_reported_by_batch(tmp_path):
    file = tmp_path / "a.arrow"
    write_stream(pa.table({"id": list(range(1000))}), file, pa.ipc.new_stream)
    whole = file.read_bytes()
    file.write_bytes(whole[:-8])
    assert len(read(tmp_path)[0]) == 1000
    file.write_bytes(whole[:-100])
    with pytest.raises(SourceError, match="record batch 0 is damaged or cut off"):
        read(tmp_path)


def test_dictionaries_that_grow_within_a_stream_and_compressed_buffers_are_read(tmp_path):
    options = pa.ipc.IpcWriteOptions(emit_dictionary_deltas=True, compression="zstd")
    first, second = (pa.array(values).dictionary_encode() for values in (["a", "b"], ["a", "b", "c"]))
    schema = pa.schema([("x", first.type)])
    stream = pa.OSFile(str(tmp_path / "a.arrow"), "wb")
    with stream, pa.ipc.new_stream(stream, schema, options=options) as writer:
        for values in (first, second):
            writer.write_batch(pa.record_batch([values], schema=schema))
    assert read(tmp_path)[0]["x"].to_pylist() == ["a", "b", "a", "b", "c"]


def test_a_file_without_rows_has_its_columns(tmp_path):
    pq.write_table(
        pa.table({"id": pa.array([], pa.int64()), "text": pa.array([], pa.string())}), tmp_path / "a.parquet"
    )
    got, bad = read(tmp_path)
    assert (len(got), bad, got.schema.names) == (0, [], ["id", "text"])


texts = st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
raw = st.none() | st.binary(max_size=4)


@settings(max_examples=100)
@given(st.lists(st.tuples(raw, texts, st.none() | st.lists(texts, max_size=3)), max_size=40), st.integers(1, 9))
def test_rows_read_are_those_that_pyarrow_reads_without_the_ones_that_are_not_text(tmp_path_factory, rows, size):
    file = tmp_path_factory.mktemp("cells") / "a.parquet"
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    table = pa.table(
        {
            "raw": broken(*columns[0]),
            "text": pa.array(columns[1], pa.string()),
            "list": pa.array(columns[2], pa.list_(pa.string())),
        }
    )
    pq.write_table(table, file, row_group_size=size)
    good = [i for i, row in enumerate(rows) if row[0] is None or _is_text(row[0])]
    got, bad = read(file)
    assert got.to_pylist() == pq.read_table(file).take(pa.array(good, pa.int64())).to_pylist()
    assert [row.row for row in bad] == [i + 1 for i in range(len(rows)) if i not in good]


def _is_text(value):
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True
