import pyarrow as pa
import pytest

from jobs.review.differences import draw_differences

ROWS = pa.table({"key": [f"row {number}" for number in range(1000)]})
CHAMPION = pa.array(["a"] * 1000)
CHALLENGER = pa.array(["b" if number % 10 == 0 else "a" for number in range(1000)])


def test_only_rows_that_differ_are_drawn_with_one_probability():
    found = draw_differences(ROWS, CHAMPION, CHALLENGER, 40)
    assert 20 <= len(found) <= 60
    assert {int(key.split()[1]) % 10 for key in found["key"].to_pylist()} == {0}
    assert set(found["probability"].to_pylist()) == {0.4}
    assert found["champion"].to_pylist() == ["a"] * len(found)
    assert found["challenger"].to_pylist() == ["b"] * len(found)
    assert found.equals(draw_differences(ROWS, CHAMPION, CHALLENGER, 40))


def test_all_rows_are_drawn_if_fewer_differ_than_are_asked_for():
    found = draw_differences(ROWS, CHAMPION, CHALLENGER, 500)
    assert len(found) == 100
    assert set(found["probability"].to_pylist()) == {1.0}


def test_nothing_is_drawn_if_the_two_agree():
    assert len(draw_differences(ROWS, CHAMPION, CHAMPION, 40)) == 0


def test_predictions_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="1000 rows have 1000 predictions of the champion and 999"):
        draw_differences(ROWS, CHAMPION, CHALLENGER[:999], 40)
