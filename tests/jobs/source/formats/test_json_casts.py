"""JSON values in a column whose type the job file names: what converts exactly is accepted, the rest rejected."""

import json

import pyarrow as pa
import pytest

from jobs import source
from jobs.source import BadRow
from jobs.spec import SourceSpec


def read(path, **spec):
    planned, shards = source.plan(SourceSpec(path=str(path), **spec))
    items = [item for shard in shards for item in source.read(planned, shard, 64)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    return pa.Table.from_batches(batches, planned.schema), [item for item in items if isinstance(item, BadRow)]


@pytest.mark.parametrize(
    ("type_", "value", "expected"),
    [
        ("int32", '"5"', 5),
        ("int32", '" -5 "', -5),
        ("int32", '"05"', 5),
        ("int32", "5.0", 5),
        ("int32", '"5.0"', 5),
        ("int64", '"9223372036854775807"', 2**63 - 1),
        ("int64", "1e3", 1000),
        ("uint8", '"255"', 255),
        ("double", '"1.5"', 1.5),
        ("double", '"1e-7"', 1e-7),
        ("float", '"5"', 5.0),
        ("bool", '"true"', True),
        ("bool", '"False"', False),
        ("bool", "1", True),
        ("bool", '"0"', False),
        ("decimal128(10, 2)", '"1.50"', "1.50"),
        ("date32", '"2024-03-01"', "2024-03-01"),
        ("string", "5", "5"),
        ("string", "true", "true"),
        ("string", '{"a": [1.10]}', '{"a": [1.10]}'),
        ("int32", "null", None),
    ],
)
def test_a_value_that_converts_exactly_is_accepted(tmp_path, type_, value, expected):
    (tmp_path / "a.jsonl").write_text(f'{{"id": 1, "n": {value}}}\n')
    got, bad = read(tmp_path, types={"n": type_})
    assert bad == []
    (found,) = got["n"].to_pylist()
    assert (found if isinstance(found, bool | int | float | None) else str(found)) == expected


@pytest.mark.parametrize(
    ("type_", "value"),
    [
        ("int32", '"five"'),
        ("int32", '""'),
        ("int32", '"5.5"'),
        ("int32", "5.5"),
        ("int32", '"0x1F"'),
        ("int32", '"2147483648"'),
        ("int32", "1e999999999"),
        ("int32", "NaN"),
        ("int32", "true"),
        ("int32", '["5"]'),
        ("uint8", '"-1"'),
        ("int64", '"99999999999999999999999"'),
        ("double", '"1e400"'),
        ("double", '"9007199254740993"'),
        ("double", '"one"'),
        ("bool", '"yes"'),
        ("bool", "2"),
        ("date32", '"soon"'),
        ("date32", "20240301"),
        ("decimal128(4, 2)", '"1.505"'),
    ],
)
def test_a_value_that_does_not_convert_exactly_is_a_rejected_row(tmp_path, type_, value):
    (tmp_path / "a.jsonl").write_text(f'{{"id": 1, "n": {value}}}\n{{"id": 2, "n": null}}\n')
    got, (bad,) = read(tmp_path, types={"n": type_})
    assert got.to_pylist() == [{"id": 2, "n": None}]
    assert (bad.error_type, bad.row, bad.column) == ("InvalidValue", 1, "n")
    assert bad.message.startswith("record 1, column 'n': ")


@pytest.mark.parametrize("type_", ["int32", "int64", "double", "bool", "string"])
@pytest.mark.parametrize("value", ["5", " 5", "1", "0", "true", "1.5", "five"])
def test_text_is_accepted_in_json_as_it_is_in_csv(tmp_path, type_, value):
    (tmp_path / "csv").mkdir()
    (tmp_path / "csv" / "a.csv").write_text(f"id,n\n1,{value}\n")
    (tmp_path / "jsonl").mkdir()
    (tmp_path / "jsonl" / "a.jsonl").write_text(json.dumps({"id": 1, "n": value}) + "\n")
    of_csv, of_jsonl = (read(tmp_path / name, types={"n": type_}) for name in ("csv", "jsonl"))
    assert of_csv[0]["n"].to_pylist() == of_jsonl[0]["n"].to_pylist()


def test_a_column_that_the_job_file_does_not_name_converts_nothing(tmp_path):
    lines = [*['{"id": 1, "n": 5}'] * 200, '{"id": 1, "n": "5"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    got, (bad,) = read(tmp_path)
    assert (len(got), bad.column, bad.row) == (200, "n", 201)
    assert '"5" is a string, and the column is int64' in bad.message


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ('{"id": 1, "n": 1, "t": "x"', "t", "expecting ',' delimiter (character 27 of the line)"),
        ('{"id": 1, "n": "x', "n", "unterminated string (character 16 of the line)"),
        ('{"id": 1, "n": tru}', "n", "expecting value (character 16 of the line)"),
        ('{"id": 1, "n" 1}', "n", "expecting ':' delimiter (character 15 of the line)"),
        ('{"id": 1, "n": "a\tb"}', "n", "invalid control character (character 18 of the line)"),
        ('{"id": 1, n: 1}', None, "expecting property name enclosed in double quotes (character 11 of the line)"),
        ('{"id": 1} x', None, "extra data (character 11 of the line)"),
    ],
)
def test_a_broken_line_names_its_record_and_column_and_keeps_the_columns_before(tmp_path, line, column, message):
    (tmp_path / "a.jsonl").write_text('{"id": 1, "n": 1, "t": "x"}\n\n' + line + "\n")
    _, (bad,) = read(tmp_path, columns=["id", "n", "t"])
    place = "record 3" if column is None else f"record 3, column '{column}'"
    assert (bad.error_type, bad.row, bad.column) == ("InvalidJSON", 3, column)
    assert bad.message == f"{place}: {message}"
    assert "line 1" not in bad.message
    assert bad.values["id"].to_pylist() == [1]


@pytest.mark.parametrize("line", ["nope", "", "[1", "{", "'id'", "{5: 1}", '{"id"', '{"id": [', '{"a": ' * 5000])
def test_a_line_of_which_nothing_can_be_read_is_a_rejected_row(tmp_path, line):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n' + line + '\n{"id": 2}\n')
    got, bad = read(tmp_path)
    assert got["id"].to_pylist() == [1, 2]
    assert [(row.error_type, row.row) for row in bad] == ([("InvalidJSON", 2)] if line else [])
