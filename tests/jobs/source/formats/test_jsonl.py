"""JSON lines keep what the file says; a cell that does not fit rejects its row and no other."""

import gzip
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow
from jobs.source.formats import jsonl
from jobs.source.formats.json_parser import Parser
from jobs.spec import SourceSpec
from transforms.errors import SourceError, UserError


def read(path, batch_rows=64, **spec):
    planned, shards = source.plan(SourceSpec(path=str(path), **spec))
    items = [item for shard in shards for item in source.read(planned, shard, batch_rows)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    return pa.Table.from_batches(batches, planned.schema), [item for item in items if isinstance(item, BadRow)]


def write(folder, *lines, name="a.jsonl"):
    file = folder / name
    encoded = [line if isinstance(line, bytes) else line.encode() for line in map(_line, lines)]
    file.write_bytes(b"\n".join(encoded) + b"\n")
    return file


def _line(line):
    return line if isinstance(line, str | bytes) else json.dumps(line)


def columns(table):
    return {field.name: str(field.type) for field in table.schema}


@pytest.mark.parametrize("value", ["2024-03-01", "2024-03-01T08:00:00+02:00", "2024-03-01T08:00:00Z", "08:15:00"])
def test_a_string_is_text_whatever_it_looks_like(tmp_path, value):
    write(tmp_path, {"when": value}, {"when": value})
    got, bad = read(tmp_path)
    assert (got.to_pylist(), bad, columns(got)) == ([{"when": value}] * 2, [], {"when": "string"})


def test_a_date_in_one_file_and_a_word_in_another_are_both_text(tmp_path):
    write(tmp_path, {"due": "2024-03-01"}, name="a.jsonl")
    write(tmp_path, {"due": "later"}, name="b.jsonl")
    assert read(tmp_path)[0]["due"].to_pylist() == ["2024-03-01", "later"]


@pytest.mark.parametrize(
    "numbers",
    [
        ["18446744073709551615", "9223372036854775808", "1"],
        ["1", "1.0"],
        ["2.50", "2.5"],
        ["1e400", "3"],
        ["123456789012345678901234567890.5"],
    ],
)
def test_numbers_that_a_type_would_rewrite_stay_text(tmp_path, numbers):
    write(tmp_path, *(f'{{"n": {number}, "deep": {{"n": [{number}]}}}}' for number in numbers))
    got, bad = read(tmp_path)
    assert bad == []
    assert got["n"].to_pylist() == numbers
    assert got["deep"].to_pylist() == [{"n": [number]} for number in numbers]


def test_numbers_that_print_back_have_a_type(tmp_path):
    write(tmp_path, '{"n": -3, "x": 1.0, "y": 1e-07}', '{"n": 9223372036854775807, "x": NaN, "y": 0.1}')
    got, _ = read(tmp_path)
    assert columns(got) == {"n": "int64", "x": "double", "y": "double"}
    assert got["n"].to_pylist() == [-3, 2**63 - 1]


def test_numbers_that_print_differently_in_two_files_are_text_in_both(tmp_path):
    write(tmp_path, '{"n": 1, "d": {"x": 2}}', name="a.jsonl")
    write(tmp_path, '{"n": 1.5, "d": {"x": 2.5, "y": null}}', name="b.jsonl")
    got, bad = read(tmp_path)
    assert (got["n"].to_pylist(), bad) == (["1", "1.5"], [])
    assert got["d"].to_pylist() == [{"x": "2", "y": None}, {"x": "2.5", "y": None}]


def test_a_large_integer_among_doubles_past_the_head_is_rejected_instead_of_rounded(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SAMPLE_BYTES", 60)
    write(tmp_path, *['{"id": 1, "n": 0.5}'] * 9, '{"id": 2, "n": 9007199254740993}', '{"id": 3, "n": 4}')
    got, (bad,) = read(tmp_path)
    assert got["n"].to_pylist() == [0.5] * 9 + [4.0]
    assert (bad.row, bad.column, bad.values.to_pylist()) == (10, "n", [{"id": 2, "n": None}])
    assert "set source.types: {n: string} to keep it" in bad.message


def test_a_type_of_the_job_file_is_what_values_are_converted_to(tmp_path):
    write(tmp_path, '{"zip": 1234, "due": "2024-03-01", "x": 1}', '{"zip": "0123", "due": "soon", "x": 1.5}')
    got, (bad,) = read(tmp_path, types={"zip": "string", "due": "date32", "x": "double"})
    assert columns(got) == {"zip": "string", "due": "date32[day]", "x": "double"}
    assert got["zip"].to_pylist() == ["1234"]
    assert (bad.row, bad.column, bad.values.to_pylist()) == (2, "due", [{"zip": "0123", "due": None, "x": 1.5}])


def test_a_time_with_an_offset_is_not_read_as_a_type_without_time_zone(tmp_path):
    write(tmp_path, {"t": "2024-03-01T08:00:00"}, {"t": "2024-03-01T08:00:00+02:00"})
    got, (bad,) = read(tmp_path, types={"t": "timestamp[us]"})
    assert (len(got), bad.column) == (1, "t")


def test_one_list_among_many_strings_is_a_rejected_row(tmp_path):
    write(tmp_path, *[{"id": i, "tag": "x"} for i in range(200)], {"id": 200, "tag": ["x", "y"]})
    got, (bad,) = read(tmp_path)
    assert (len(got), bad.row, bad.column) == (200, 201, "tag")
    assert bad.values.to_pylist() == [{"id": 200, "tag": None}]


def test_a_number_too_large_for_a_double_is_ignored_in_a_column_that_is_not_selected(tmp_path):
    write(tmp_path, '{"id": 1, "n": 1e400}', '{"id": 2, "n": 2.5}')
    assert read(tmp_path, columns=["id"])[0]["id"].to_pylist() == [1, 2]


def test_a_cell_that_does_not_fit_rejects_its_row_and_keeps_the_other_columns(tmp_path):
    write(
        tmp_path,
        *[{"id": i, "text": "fine", "about": {"n": i}} for i in range(5)],
        "",
        {"id": 5, "text": 7, "about": {"n": 5}},
        {"id": 6, "text": "fine", "about": {"n": "six"}},
        b'{"id": 7, "text": "bad \xff byte", "about": {"n": 7}}',
        '{"id": 8, "text": "half \\ud83d pair", "about": {"n": 8}}',
        '{"id": 9, "id": 10, "text": "twice", "about": {"n": 9}}',
    )
    got, bad = read(tmp_path)
    assert got["id"].to_pylist() == list(range(5))
    assert [(row.error_type, row.row, row.column) for row in bad] == [
        ("InvalidValue", 7, "text"),
        ("InvalidValue", 8, "about.n"),
        ("InvalidUTF8", 9, "text"),
        ("InvalidUTF8", 10, "text"),
        ("DuplicateKey", 11, "id"),
    ]
    assert [row.values["id"][0].as_py() for row in bad] == [5, 6, 7, 8, 10]
    assert "7 is a number, and the column is string" in bad[0].message
    assert '"six" is a string, and the column is int64' in bad[1].message
    assert bad[1].values["text"][0].as_py() == "fine"


def test_line_numbers_count_from_the_beginning_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SHARD_BYTES", 300)
    monkeypatch.setattr(jsonl, "BLOCK_BYTES", 64)
    lines = [{"id": i} for i in range(200)]
    lines[150] = {"id": "x"}
    write(tmp_path, *lines)
    got, (bad,) = read(tmp_path)
    assert (len(got), bad.row) == (199, 151)


def test_a_first_line_longer_than_the_head_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SAMPLE_BYTES", 100)
    write(tmp_path, {"text": "t" * 5000, "id": 1}, {"text": "short", "id": 2})
    got, bad = read(tmp_path)
    assert (got["id"].to_pylist(), bad) == ([1, 2], [])


def test_a_byte_order_mark_is_no_part_of_the_first_line(tmp_path):
    file = write(tmp_path, {"id": 1, "n": 1}, {"id": 2, "n": "x"}, {"id": 3, "n": 3}, {"id": 4, "n": 3})
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    got, (bad,) = read(tmp_path)
    assert (got["id"].to_pylist(), bad.row) == ([1, 3, 4], 2)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"id": 1}\n'.encode("utf-16"), r"a.jsonl is UTF-16, .* iconv"),
        (b'[\n{"id": 1},\n{"id": 2}\n]\n', "is one JSON array, not JSON lines; write one object a line"),
        (b'[{"id": 1}]', "is one JSON array"),
        (b"id,text\n1,x\n", "has no line that is a JSON object"),
        (b'{\n  "id": 1,\n  "text": "x"\n}\n', "has no line that is a JSON object; write one object a line: jq -c ."),
        (b'{"id": 1}{"id": 2}', "has no line that is a JSON object"),
    ],
)
def test_a_file_of_another_format_is_refused_with_the_fix(tmp_path, content, message):
    (tmp_path / "a.jsonl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read(tmp_path)


def test_keys_that_were_always_null_accept_any_later_value(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SAMPLE_BYTES", 50)
    lines = [{"a": None, "o": {}, "l": []}] * 9 + [{"a": 1.5, "o": {"x": [1]}, "l": ["x"]}]
    write(tmp_path, *lines)
    got, bad = read(tmp_path)
    assert bad == []
    assert got.to_pylist()[0] == {"a": None, "o": "{}", "l": []}
    assert got.to_pylist()[9] == {"a": "1.5", "o": '{"x": [1]}', "l": ["x"]}
    pq.write_table(got, io.BytesIO())


def test_deep_nesting_is_json_text_and_too_deep_nesting_a_rejected_row(tmp_path):
    def nested(levels):
        return '{"id": 1, "deep": ' + '{"x":' * levels + "1" + "}" * levels + "}"

    write(tmp_path, nested(40))
    got, _ = read(tmp_path)
    pq.write_table(got, io.BytesIO())
    write(tmp_path, *[nested(3)] * 301, nested(50_000))
    got, (bad,) = read(tmp_path)
    assert (len(got), bad.row, bad.error_type) == (301, 302, "InvalidJSON")


def test_keys_with_dots_and_empty_keys_are_columns(tmp_path):
    write(tmp_path, {"a.b": 1, "": 2})
    assert read(tmp_path)[0].to_pylist() == [{"a.b": 1, "": 2}]


def test_bad_cells_of_a_compressed_file_have_line_numbers_too(tmp_path):
    file = write(tmp_path, {"id": 1}, {"id": 2}, {"id": [3]}, *[{"id": 1}] * 200)
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert [row.row for row in read(tmp_path)[1]] == [3]


def test_a_compressed_file_that_ends_early_is_reported_by_name(tmp_path):
    file = write(tmp_path, *[{"id": i, "text": str(i**9)} for i in range(5000)])
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(file.read_bytes())[:-2000])
    file.unlink()
    with pytest.raises(SourceError, match=r"a\.jsonl\.gz"):
        read(tmp_path)


leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=9)
rows = st.fixed_dictionaries(
    {
        "n": st.none() | st.integers(-(2**63), 2**63 - 1),
        "x": st.none() | st.floats(allow_nan=False, allow_infinity=False, width=32),
        "b": st.none() | st.booleans(),
        "t": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
        "l": st.none()
        | st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=3), max_size=3),
        "o": st.none() | st.fixed_dictionaries({"k": st.none() | st.integers(0, 9)}),
    }
)


@settings(max_examples=150)
@given(st.lists(rows, min_size=1, max_size=8), st.booleans())
def test_line_by_line_gives_what_the_block_gives(rows, ascii_):
    block = "".join(json.dumps(row, ensure_ascii=ascii_) + "\n" for row in rows).encode()
    types = {"n": pa.int64(), "x": pa.float64(), "b": pa.bool_(), "t": pa.string(), "l": pa.list_(pa.string())}
    schema = pa.schema([*types.items(), ("o", pa.struct([("k", pa.int64())]))])
    parser = Parser(schema, strict=True)
    whole = parser.batches(block)
    slow = list(parser.rows(block))
    want = pa.Table.from_batches(slow, schema)
    assert want.to_pylist() == rows
    # Large doubles are left to the slow path.
    assert whole is None or pa.Table.from_batches(whole).select(schema.names).equals(want)


@pytest.mark.parametrize(
    "line", ['{"id": 1} {"id": 2}', '{"id": 1}{"id": 2}', '{"id": 1}, {"id": 2}', '{"id":', '{"id": 1} {"id": 2}\n']
)
def test_a_line_that_is_not_one_object_is_a_rejected_row_in_a_block_without_other_errors(tmp_path, line):
    write(tmp_path, {"id": 0}, line, {"id": 3})
    got, bad = read(tmp_path)
    assert got["id"].to_pylist() == [0, 3]
    assert [(row.row, row.error_type) for row in bad] == [(2, "InvalidJSON")]


def test_an_object_over_two_lines_beside_two_objects_in_one_line_is_two_rejected_rows(tmp_path):
    write(tmp_path, '{"id": 1} {"id": 2}', '{"id":', "3}", {"id": 4})
    got, bad = read(tmp_path)
    assert (got["id"].to_pylist(), [row.row for row in bad]) == ([4], [1, 2, 3])


@settings(max_examples=150)
@given(st.lists(st.dictionaries(st.sampled_from("abc"), leaves, max_size=3), min_size=1, max_size=6))
def test_every_value_comes_back_as_it_was_or_as_its_text(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("lines")
    write(folder, *rows)
    got, bad = read(folder)
    assert len(got) + len(bad) == len(rows)
    for row, read_row in zip(rows, got.to_pylist() if not bad else [], strict=False):
        for key, value in row.items():
            assert read_row[key] in (value, json.dumps(value))
