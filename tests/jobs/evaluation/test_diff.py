"""The table of what changes between two versions."""

import json

import pyarrow as pa
import pytest

from jobs.evaluation.diff import diff
from jobs.evaluation.predict import predict, prepare
from tests import tiny
from transforms.errors import SpecError
from transforms.tasks.classify import LABEL
from transforms.tasks.ner import ENTITY


def labels(names, score=0.75):
    return pa.array([None if name is None else {"label": name, "score": score} for name in names], LABEL)


def rows(n):
    return pa.table({"id": range(n), "text": [f"text  {i}" for i in range(n)]})


def test_flips_are_counted_with_the_most_frequent_first():
    before, after = labels(["a", "a", "a", "b", "b", None]), labels(["a", "b", "b", "a", "b", "b"], 0.5)
    found = diff(rows(6), before, after)
    assert (found.rows, found.changed) == (6, 4)
    assert [(flip.before, flip.after, flip.rows) for flip in found.flips] == [
        ("a", "b", 2),
        ("(nothing)", "b", 1),
        ("b", "a", 1),
    ]
    assert [example.row for example in found.examples] == [1, 5, 3, 2]
    assert (found.examples[0].before, found.examples[0].after) == ("a (0.75)", "b (0.50)")


def test_the_text_is_a_table_with_aligned_columns():
    found = diff(rows(3), labels(["a", "a", "b"]), labels(["a", "bb", "b"]))
    assert found.text().splitlines() == [
        "1 of 3 rows change (33.3%)",
        "",
        "before  after  rows",
        "a       bb        1",
        "",
        "row  before    after      text",
        "  1  a (0.75)  bb (0.75)  text 1",
    ]


def test_examples_are_limited_and_show_every_kind_of_change():
    before, after = labels(["a"] * 40 + ["b"]), labels(["b"] * 40 + ["c"])
    found = diff(rows(41), before, after, examples=20)
    assert len(found.examples) == 20
    assert 40 in [example.row for example in found.examples]


def test_the_text_shows_the_most_frequent_kinds_of_change_and_counts_the_others():
    before, after = labels(["a"] * 41), labels(["b"] * 2 + [f"label {i}" for i in range(39)])
    found = diff(rows(41), before, after)
    assert len(found.flips) == len(found.to_json()["flips"]) == 40
    lines = found.text().splitlines()
    assert lines[3].split() == ["a", "b", "2"]
    assert lines[33] == "and 10 rows with 10 other changes"


def test_with_the_truth_the_table_says_which_flips_are_right():
    truth = pa.array(["b", "a", "a"])
    found = diff(rows(3), labels(["a", "a", "a"]), labels(["b", "b", "a"]), truth=truth)
    assert (found.flips[0].rows, found.flips[0].right_before, found.flips[0].right_after) == (2, 1, 1)
    assert "right before" in found.text()


def test_equal_labels_with_other_scores_are_no_change():
    found = diff(rows(2), labels(["a", "b"], 0.9), labels(["a", "b"], 0.6))
    assert found.changed == 0
    assert found.text() == "0 of 2 rows change (0.0%)"


def test_the_json_can_be_written_and_has_the_counts():
    data = json.loads(json.dumps(diff(rows(2), labels(["a", "b"]), labels(["b", "b"])).to_json()))
    assert data["changed"] == 1
    assert data["share"] == 0.5
    assert data["flips"] == [{"before": "a", "after": "b", "rows": 1, "right_before": None, "right_after": None}]
    assert data["examples"][0]["text"] == "text 0"


def entities(*per_row):
    made = [[{"label": n, "text": n.lower(), "start": s, "end": e, "score": 1.0} for n, s, e in row] for row in per_row]
    return pa.array(made, pa.list_(ENTITY))


def test_entities_are_counted_one_by_one():
    before = entities([("PER", 0, 3), ("LOC", 5, 9)], [("PER", 0, 3)])
    after = entities([("ORG", 0, 3), ("LOC", 5, 9), ("PER", 10, 12)], [("PER", 0, 3)])
    found = diff(rows(2), before, after)
    assert (found.changed, found.unit) == (1, "entities")
    assert {(flip.before, flip.after): flip.rows for flip in found.flips} == {
        ("PER", "ORG"): 1,
        ("(nothing)", "PER"): 1,
    }


def test_written_texts_are_compared_whole():
    found = diff(rows(3), pa.array(["one", "two", None]), pa.array(["one", "2", "three"]))
    assert {(flip.before, flip.after): flip.rows for flip in found.flips} == {
        ("(a text)", "(another text)"): 1,
        ("(nothing)", "(another text)"): 1,
    }
    assert ("two", "2") in [(example.before, example.after) for example in found.examples]


def test_several_labels_are_compared_as_sets():
    def several(*per_row):
        return pa.array([[{"label": n, "score": s} for n, s in row] for row in per_row], pa.list_(LABEL))

    before, after = several([("a", 0.9), ("b", 0.6)], [("a", 0.9)]), several([("b", 0.8), ("a", 0.7)], [("a", 0.2)])
    found = diff(rows(2), before, after)
    assert [(flip.before, flip.after) for flip in found.flips] == [("a", "(nothing)")]


def test_two_models_are_compared_on_their_own_predictions(models):
    table = pa.table({"text": tiny.texts(60)})
    options = {"dtype": "float32", "device": "cpu"}
    one, other = (
        predict(prepare("classify", models / name, None, table, options)).values for name in ("sentiment", "nli")
    )
    found = diff(table, one, other)
    expected = sum(a["label"] != b["label"] for a, b in zip(one.to_pylist(), other.to_pylist(), strict=True))
    assert found.changed == expected > 0
    assert sum(flip.rows for flip in found.flips) == expected


@pytest.mark.parametrize(
    ("after", "column", "said"),
    [
        (labels(["a"]), None, "there are 2 rows, and 2 and 1 predictions"),
        (pa.array(["a", "b"]), None, "compare two versions of one task"),
        (labels(["a", "b"]), "body", "column 'body' is not in the rows; columns: id, text"),
    ],
)
def test_predictions_that_cannot_be_compared_are_refused(after, column, said):
    with pytest.raises(SpecError, match=said):
        diff(rows(2), labels(["a", "b"]), after, column=column)
