"""Spark reads the tables that runs publish, and rewrites them between two nights."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest

from tests import lake
from tests.engines.rows import counts, expected, seen
from tests.jobs.sink.table.nights import night, write

pytestmark = [pytest.mark.engines, pytest.mark.timeout(900)]

UTC = datetime.UTC


def every_type() -> pa.Table:
    """Three rows with a column of each type that a table can hold; the second one of nulls."""
    day, moment = datetime.date(2026, 3, 1), datetime.datetime(2026, 3, 1, 23, 30, 0, 123456)
    columns = {
        "id": pa.array(["a", "b", "c"]),
        "text": pa.array(["good", None, "bad"]),
        "yes": pa.array([True, None, False]),
        "i8": pa.array([-128, None, 127], pa.int8()),
        "i16": pa.array([-(2**15), None, 2**15 - 1], pa.int16()),
        "i32": pa.array([-(2**31), None, 2**31 - 1], pa.int32()),
        "i64": pa.array([-(2**63), None, 2**63 - 1], pa.int64()),
        "u8": pa.array([0, None, 255], pa.uint8()),
        "u16": pa.array([0, None, 2**16 - 1], pa.uint16()),
        "u32": pa.array([0, None, 2**32 - 1], pa.uint32()),
        "u64": pa.array([0, None, 2**64 - 1], pa.uint64()),
        "f16": pa.array(np.array([1.5, 0, -2.25], np.float16), mask=np.array([False, True, False])),
        "f32": pa.array([0.1, None, float("inf")], pa.float32()),
        "f64": pa.array([0.1, None, -1e300], pa.float64()),
        "money": pa.array([decimal.Decimal("-12345.67"), None, decimal.Decimal("0.01")], pa.decimal128(9, 2)),
        "large": pa.array([decimal.Decimal(10) ** 37, None, decimal.Decimal(-1)], pa.decimal128(38, 0)),
        "words": pa.array(["ü", None, "日本"], pa.large_string()),
        "view": pa.array(["x" * 50, None, ""], pa.string_view()),
        "word": pa.array(["x", None, "y"]).dictionary_encode(),
        "bytes": pa.array([b"\x00\xff", None, b""]),
        "four": pa.array([b"abcd", None, b"\x00\x00\x00\x00"], pa.binary(4)),
        "day": pa.array([day, None, datetime.date(1969, 12, 31)]),
        "day64": pa.array([day, None, day], pa.date64()),
        "local_s": pa.array([moment.replace(microsecond=0), None, moment.replace(microsecond=0)], pa.timestamp("s")),
        "local": pa.array([moment, None, datetime.datetime(1900, 1, 1)], pa.timestamp("us")),
        "local_ns": pa.array([1_700_000_000_123_456_789, None, 5], pa.timestamp("ns")),
        "instant": pa.array([moment.replace(tzinfo=UTC), None, moment.replace(tzinfo=UTC)], pa.timestamp("us", "UTC")),
        "there": pa.array([moment.replace(tzinfo=UTC), None, None], pa.timestamp("ms", "Asia/Tokyo")),
        "nothing": pa.nulls(3),
        "list": pa.array([["a", None], None, []], pa.list_(pa.string())),
        "pair": pa.array([[1, 2], [0, 0], [3, None]], pa.list_(pa.uint16(), 2)),
        "map": pa.array([[("k", 1), ("l", None)], None, []], pa.map_(pa.string(), pa.int32())),
        "struct": pa.array([{"a": 1, "b": ["x"]}, None, {"a": None, "b": None}],
                           pa.struct([("a", pa.uint8()), ("b", pa.list_(pa.string()))])),
        # pyiceberg reads a null here as an empty list.
        "deep": pa.array([[{"m": [("k", {"n": [1]})]}, None], [], []],
                         pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.struct([("n", pa.list_(pa.int64()))])))]))),
    }  # fmt: skip
    return pa.table(columns)


def test_spark_reads_every_type_that_a_run_writes(spark, tables, models, tmp_path):
    night(tables.job(write(tmp_path / "in", a=every_type()), models))
    assert seen(spark, tables) == expected(tables.read())
    conditions = (
        "i8 = 127", "u64 = 18446744073709551615", "f32 > 1e30", "f64 < -1e299", "money = 0.01", "large < 0",
        "words = '日本'", "view = repeat('x', 50)", "bytes = X'00FF'", "day = DATE '1969-12-31'",
        "local_ns = TIMESTAMP_NTZ '1970-01-01 00:00:00'", "there >= TIMESTAMP '2026-03-01 23:30:00.123Z'",
        "struct.a = 1", "nothing IS NULL AND id = 'a'", "text = 'bad'", "pair[0] = 3",
    )  # fmt: skip
    assert counts(spark, tables, conditions) == dict.fromkeys(conditions, 1)


def partitioned() -> tuple[pa.Table, list[str]]:
    """Rows, and the columns that they are divided by."""
    rows = lake.rows(8)
    moment = datetime.datetime(2026, 3, 1, 23, 30, 0, 123456)
    values = {
        "topic": pa.array(["a b/ü", None, "x=y%", "50%25"] * 2),
        "size": pa.array([1, None, -3, 4] * 2, pa.int16()),
        "yes": pa.array([True, None, False, True] * 2),
        "day": pa.array([datetime.date(2026, 1, 1), None] * 4),
        "money": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("0.10"), None] * 2, pa.decimal128(9, 2)),
        "local": pa.array([moment, None] * 4, pa.timestamp("us")),
        "instant": pa.array([moment, None] * 4, pa.timestamp("us", "UTC")),
    }
    for name, column in values.items():
        rows = rows.append_column(name, column)
    return rows, list(values)


def test_spark_reads_partitions_of_every_type_and_skips_the_others(spark, tables, models, tmp_path):
    rows, columns = partitioned()
    night(tables.job(write(tmp_path / "in", a=rows), models, sink={"partition_by": columns}))
    assert expected(tables.read().select(rows.column_names)) == expected(rows.sort_by("id"))
    assert seen(spark, tables) == expected(tables.read())
    conditions = {
        "topic = 'a b/ü'": 2,
        "topic IS NULL": 2,
        "size < 0": 2,
        "yes": 4,
        "day = DATE '2026-01-01'": 4,
        "money = 1.50": 2,
        "local > TIMESTAMP_NTZ '2026-03-01 23:30:00'": 4,
        "instant = TIMESTAMP '2026-03-01 23:30:00.123456Z'": 4,
    }
    assert counts(spark, tables, conditions) == conditions


def test_spark_reads_older_files_without_an_added_column(spark, tables, models, tmp_path):
    source = write(tmp_path / "in", a=lake.rows(20), b=lake.rows(10, 20))
    job = tables.job(source, models, sink={"mode": "append"})
    night(job)
    job["tasks"].append(job["tasks"][0] | {"into": "again", "column": "id"})
    write(source, c=lake.rows(5, 40))
    night(job)
    found = seen(spark, tables)
    assert sorted(map(str, found)) == sorted(map(str, expected(tables.read())))
    assert (len(found), sum(row["again"] is None for row in found)) == (65, 30)
