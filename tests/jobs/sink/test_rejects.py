"""Rejected rows keep the columns that could be read, whatever those are called."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.sink.rejects import reject_schema, unreadable
from jobs.source import BadRow
from tests import lake


def test_a_rejected_row_keeps_its_number_its_column_and_the_other_columns():
    source = pa.schema([("id", pa.int32()), ("text", pa.string()), ("stars", pa.int8())])
    read = pa.record_batch({"id": pa.array([7], pa.int64()), "stars": ["many"]})
    bad = [BadRow("InvalidUTF8", "half \ud800", r"\xff", 3, "text", read), BadRow("InvalidJSON", "cut", "{")]
    assert unreadable(bad, source).to_pylist() == [
        {
            "id": 7,
            "text": None,
            "stars": None,
            "_task": "source",
            "_error_type": "InvalidUTF8",
            "_message": "half \\ud800",
            "_raw": r"\xff",
            "_row": 3,
            "_column": "text",
        },
        {
            "id": None,
            "text": None,
            "stars": None,
            "_task": "source",
            "_error_type": "InvalidJSON",
            "_message": "cut",
            "_raw": "{",
            "_row": None,
            "_column": None,
        },
    ]


@pytest.mark.parametrize("name", ["_message", "_ROW", "_nightscribe_task"])
def test_added_columns_are_named_apart_from_those_of_the_source(name):
    names = [each.lower() for each in reject_schema(pa.schema([(name, pa.string()), ("_task", pa.string())])).names]
    assert len(set(names)) == len(names)
    assert names[0] == name.lower()


def test_a_source_column_that_is_named_like_an_added_one_keeps_its_values(tmp_path, models):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/lang=en").mkdir()
    (tmp_path / "in/lang=en/a.csv").write_text("id,text,_message\n1,fine,kept\n2,too,many,fields\n")
    report = lake.execute(lake.job(tmp_path / "in", tmp_path / "out", models, errors={"max_fraction": 1.0}))
    assert (report.rows_out, report.rows_rejected) == (1, 1)
    assert lake.read(tmp_path / "out")["_message"].to_pylist() == ["kept"]
    (file,) = (tmp_path / "out/_rejected").rglob("*.parquet.rejected")
    row = pq.read_table(file, partitioning=None).to_pylist()[0]
    assert row["_nightscribe_error_type"] == "RaggedLine"
