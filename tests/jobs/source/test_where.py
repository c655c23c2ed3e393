"""A condition reads one row and the columns that it names; any other condition is refused by the plan."""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source import BadRow
from jobs.source.where import Where, take
from jobs.spec import SourceSpec
from transforms.errors import SpecError

ROWS = pa.record_batch(
    {
        "nr": [1, 2, 3, 4],
        "word": ["7", "ab", None, "12"],
        "tags": [["x"], [], None, ["x", "y"]],
        "place": [{"town": "Bonn"}, {"town": "Ulm"}, {"town": "Bonn"}, None],
        "day": pa.array([0, 1, 2, 3], pa.date32()),
        "seen": pa.array([0, 3_600_000_000, 0, 0], pa.timestamp("us", "Europe/Berlin")),
    }
)


def chosen(condition: str, batch: pa.RecordBatch = ROWS) -> list[object]:
    with Where(condition, batch.schema) as where:
        where.check()
        kept, failed = where.filter(batch)
    assert not failed
    return kept.column(0).to_pylist()


def refused(condition: str, batch: pa.RecordBatch = ROWS) -> str:
    with pytest.raises(SpecError) as caught, Where(condition, batch.schema) as where:
        where.check()
    return str(caught.value)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ("nr = 2", [2]),
        ("NR = 2", [2]),
        ('"nr" = 2 -- a comment', [2]),
        ("true", [1, 2, 3, 4]),
        ("word IS NULL", [3]),
        ("word <> 'ab'", [1, 4]),
        ("word LIKE '%2' OR nr IN (1)", [1, 4]),
        ("word.upper() = 'AB'", [2]),
        ("place.town = 'Bonn' AND nr > 1", [3]),
        ("list_contains(tags, 'y')", [4]),
        ("len(list_filter(tags, lambda tag: tag = 'x')) = 1", [1, 4]),
        ("len(list_filter(tags, tag -> tag = 'x')) = 1", [1, 4]),
        ("day >= '1970-01-03'", [3, 4]),
        ("hour(seen) = 1", [2]),
        ("TRY_CAST(word AS INTEGER) > 10", [4]),
        ("CASE WHEN nr < 3 THEN word = 'ab' ELSE false END", [2]),
    ],
)
def test_a_condition_chooses_rows_by_their_columns(condition, rows):
    assert chosen(condition) == rows


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("row_number() OVER (ORDER BY nr) = 1", "it has a window function"),
        ("sum(nr) OVER () > 3", "it has a window function"),
        ("count(*) > 1", "count(*) is computed over many rows"),
        ("nr = max(nr)", "max() is computed over many rows"),
        ("count(*) FILTER (nr > 1) > 1", "count(*) is computed over many rows"),
        ("nr IN (SELECT 1)", "it has a subquery"),
        ("EXISTS (FROM read_csv('/etc/passwd'))", "it has a subquery"),
        ("nr = ANY([1, 2])", "it has a subquery"),
        ("random() < 0.5", "random() does not depend on the row alone"),
        ("uuid() > word", "uuid() does not depend on the row alone"),
        ("seen < now()", "now() does not depend on the row alone"),
        ("day < current_date", "current_date would choose other rows in a rerun"),
        ("seen > ago(INTERVAL 1 DAY)", "ago() does not depend on the row alone"),
        ("COLUMNS(*) = 1", "it has * or COLUMNS(...)"),
        ("#1 = 1", "it has a column by its number"),
        ("nr = ?", "it has a parameter"),
        ("rowid = 1", "column 'rowid' is not in the source"),
        ("town = 'Bonn'", "column 'town' is not in the source"),
        ('word = "ab"', "text goes in single quotes: 'ab'"),
        ("word = ab", "column 'ab' is not in the source; text goes in single quotes: 'ab'"),
        ("word in (ab, 'c')", "text goes in single quotes: 'ab'"),
        ("nr", "it gives a value of type int64, but a condition must be true or false"),
        ("NULL", "it gives a value of type null"),
        ("  ", "it is empty"),
        ("nr = 1; DROP TABLE t", "syntax error"),
        ("nr = 1) or (1 = 1", "syntax error"),
        ("nr >", "syntax error: something is missing at its end"),
        ("(nr > 1) AND )", 'syntax error at or near ")"'),
        ("true) ORDER BY nr LIMIT (1", "it is more than one condition"),
        ("true) UNION ALL SELECT 1 WHERE (true", "it is more than one condition"),
        ("lower(nr) = 'x'", "No function matches"),
        ("word > 5", "Cannot compare values"),
        ("nosuch(nr) = 1", "nosuch does not exist"),
        ("glob('/etc/*') = 'x'", "table function"),
        ("day > 'soon'", "invalid date"),
    ],
)
def test_a_wrong_condition_is_refused_with_the_columns(condition, reason):
    message = refused(condition)
    assert message.startswith(f"source.where {condition!r}: ")
    assert reason in message
    assert message.endswith("; columns: nr, word, tags, place, day, seen")
    assert "\n" not in message


def test_a_column_named_like_a_word_of_sql_is_reported_with_the_fix():
    batch = pa.record_batch({"order": [1, 2], "at": [3, 4]})
    assert "syntax error" in (message := refused("order = 1", batch))
    assert '; write a column whose name is a word of SQL in double quotes: "order"; columns: ' in message
    assert chosen('"order" = 1', batch) == [1]
    assert '"at"' in refused("at < 4", batch)


def test_a_column_with_a_dot_in_its_name_is_reported_with_the_fix():
    batch = pa.record_batch({"user.name": ["ann", "bob"], "nr": [1, 2]})
    assert 'whose name has a dot in double quotes: "user.name"; columns: ' in refused("user.name = 'bob'", batch)
    assert len(chosen("\"user.name\" = 'bob'", batch)) == 1
    assert "double quotes" not in refused("user.age = 5", batch)


def test_columns_that_differ_in_case_only_are_distinguished_by_spelling():
    batch = pa.record_batch({"ID": [9, 9], "id": [1, 2], "Word": ["a", "b"]})
    assert chosen("id = 2", batch) == [9]
    assert chosen("ID = 9", batch) == [9, 9]
    assert chosen("word = 'b'", batch) == [9]
    assert "'Id' may be 'ID' or 'id'; spell it as one of them" in refused("Id = 2", batch)
    assert "it names 'ID' and 'id', which are the same name in SQL" in refused("ID = 9 AND id = 2", batch)


NUMBERS = pa.array([1, 2, 3])
ODD = {
    "halffloat": pa.array(np.array([1, 2, 3], np.float16)),
    "decimal of 60 digits": pa.array([decimal.Decimal(1)] * 3, pa.decimal256(60, 2)),
    "string_view": pa.array(["a", "b", "c"], pa.string_view()),
    "list of string_view": pa.array([["a"], [], None], pa.list_(pa.string_view())),
    "binary_view": pa.array([b"a", None, b"c"], pa.binary_view()),
    "dictionary": pa.array(["a", None, "a"]).dictionary_encode(),
    "run-end encoded": pa.compute.run_end_encode(pa.array(["a", "a", "b"])),
    "extension": pa.array([b"0" * 16] * 3, pa.uuid()),
    "union": pa.UnionArray.from_dense(pa.nulls(3, pa.int8()).fill_null(0), pa.array([0, 1, 2], pa.int32()), [NUMBERS]),
    "null": pa.nulls(3),
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
def test_the_type_of_a_column_that_is_not_named_does_not_matter(kind):
    batch = pa.record_batch({"nr": [1, 2, 3], "odd": ODD[kind]})
    with Where("nr <> 2", batch.schema) as where:
        where.check()
        kept, failed = where.filter(batch)
    kept.validate(full=True)
    assert (kept.schema, failed) == (batch.schema, [])
    values = ODD[kind].to_pylist()
    assert kept.to_pylist() == [{"nr": 1, "odd": values[0]}, {"nr": 3, "odd": values[2]}]


def test_a_named_column_is_read_or_its_type_is_refused():
    for kind, column in ODD.items():
        batch = pa.record_batch({"nr": [1, 2, 3], "odd": column})
        condition = "nr = 3 OR odd IS NULL"
        if kind in ("decimal of 60 digits", "union"):
            assert f"column 'odd' has type {column.type}, which a condition cannot read" in refused(condition, batch)
        else:
            expected = [row["nr"] for row in batch.to_pylist() if row["nr"] == 3 or row["odd"] is None]
            assert chosen(condition, batch) == expected


def test_rows_are_taken_in_order_whatever_their_number():
    batch = pa.record_batch({"view": pa.array(list("abcdef"), pa.string_view())})
    for rows in ([], [0], [5], [0, 1, 3, 5], list(range(6))):
        assert take(batch, np.array(rows, np.int64)).column(0).to_pylist() == ["abcdef"[row] for row in rows]


def test_a_row_for_which_the_condition_cannot_be_computed_is_a_bad_row_with_its_columns(tmp_path):
    (tmp_path / "lang=de").mkdir()
    pq.write_table(pa.table({"nr": [1, 2, 3], "word": ["7", "ab", "9"]}), tmp_path / "lang=de" / "a.parquet")
    spec = SourceSpec(path=str(tmp_path), where="CAST(word AS INTEGER) > 8")
    planned, (shard,) = source.plan(spec)
    bad, batch = source.read(planned, shard, 10)
    assert isinstance(bad, BadRow)
    assert isinstance(batch, pa.RecordBatch)
    assert batch.to_pylist() == [{"nr": 3, "word": "9", "lang": "de"}]
    assert (bad.error_type, bad.row) == ("ConditionError", 2)
    assert "cannot be computed for this row: Could not convert string 'ab'" in bad.message
    assert bad.values is not None
    assert bad.values.to_pylist() == [{"nr": 2, "word": "ab", "lang": "de"}]


def test_a_condition_cannot_reach_files_or_settings():
    with Where("nr = 1", ROWS.schema) as where:
        for query in ("SELECT * FROM read_text('/etc/hostname')", "SET threads = 2", "INSTALL spatial"):
            with pytest.raises(where.error):
                where.connection.execute(query)
