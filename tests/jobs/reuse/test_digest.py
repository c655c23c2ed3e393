"""Hashes of rows depend on values alone, and two rows with different values have different hashes."""

import datetime
import decimal

import hypothesis.strategies as st
import pyarrow as pa
import pytest
from hypothesis import given, settings

from jobs.reuse import digest

NOW = datetime.datetime(2026, 1, 2, 3, 4, 5)
COLUMNS = [
    (pa.string(), ["a", "", None, "b", "a\0"]),
    (pa.large_binary(), [b"a", b"", None, b"b"]),
    (pa.int8(), [1, 0, None, -1]),
    (pa.float64(), [1.0, 0.0, -0.0, None, float("nan"), 1e300]),
    (pa.bool_(), [True, False, None]),
    (pa.timestamp("us", "UTC"), [NOW, NOW.replace(year=1), None]),
    (pa.date32(), [NOW.date(), None]),
    (pa.decimal128(30, 2), [decimal.Decimal("1.10"), decimal.Decimal("0"), None]),
    (pa.list_(pa.string()), [["a", "b"], ["ab"], ["a"], [], [None], [""], None, ["b", "a"]]),
    (pa.large_list(pa.int16()), [[1, 2], [], [None], None, [0]]),
    (pa.list_(pa.float32(), 2), [[1.0, 2.0], None, [2.0, 1.0], [None, 1.0]]),
    (pa.struct({"x": pa.string(), "y": pa.int64()}), [{"x": "a", "y": 1}, {"x": None, "y": None}, None, {"x": "1"}]),
    (pa.map_(pa.string(), pa.int32()), [[("a", 1)], [("a", 1), ("b", 2)], [("a", None)], [], None]),
    (pa.dictionary(pa.int8(), pa.string()), ["a", "b", None, ""]),
    (pa.list_(pa.struct({"s": pa.list_(pa.string())})), [[{"s": ["a"]}], [{"s": []}], [{"s": None}], [None], [], None]),
]


def of(*columns):
    return [bytes(row) for row in digest.rows(columns)]


@pytest.mark.parametrize(("type_", "values"), COLUMNS, ids=[str(type_) for type_, _ in COLUMNS])
def test_different_values_differ_and_a_slice_has_the_hashes_of_the_whole(type_, values):
    whole = pa.array(values * 3, type_)
    hashes = of(whole)
    assert len(set(hashes)) == len(values)
    assert hashes[: len(values)] == hashes[len(values) : 2 * len(values)]
    for start in range(len(values)):
        assert of(whole.slice(start, 5)) == hashes[start : start + 5]
        assert of(whole.take(pa.array(range(start, len(whole))))) == hashes[start:]
    assert of(whole.slice(0, 0)) == []


def test_a_dictionary_hashes_like_its_values():
    values = ["a", "b", None, "a"]
    assert of(pa.array(values).dictionary_encode()) == of(pa.array(values))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=3) | st.none(), st.text(max_size=3) | st.none()), max_size=40))
def test_rows_have_equal_hashes_if_and_only_if_all_their_columns_are_equal(rows):
    first, second = (pa.array([row[i] for row in rows], pa.string()) for i in range(2))
    hashes = of(first, second)
    assert len(set(hashes)) == len(set(rows))
    assert len({(row, h) for row, h in zip(rows, hashes, strict=True)}) == len(set(rows))
