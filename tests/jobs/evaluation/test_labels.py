"""Metrics of labels against values computed by hand."""

import numpy as np
import pyarrow as pa
import pytest

from jobs.evaluation import labels, metrics
from transforms.errors import SpecError
from transforms.tasks.classify import LABEL

TRUE = ["a", "a", "a", "b", "b", "c"]
FOUND = ["a", "a", "b", "b", "a", "c"]
# a: precision 2/3, recall 2/3; b: 1/2, 1/2; c: 1, 1.
MACRO_F1 = (2 / 3 + 1 / 2 + 1) / 3


def rows(true):
    return pa.table({"text": [f"text {i}" for i in range(len(true))], "label": true})


def found(names):
    return pa.array([None if name is None else {"label": name, "score": 0.9} for name in names], LABEL)


def test_macro_f1_and_accuracy_equal_the_values_computed_by_hand():
    measured = metrics.measure("classify", rows(TRUE), found(FOUND))
    assert measured.metric == "macro_f1"
    assert measured.value == pytest.approx(MACRO_F1)
    assert measured.others["accuracy"] == pytest.approx(4 / 6)
    assert measured.others["classes"]["b"] == {"precision": 0.5, "recall": 0.5, "f1": 0.5, "rows": 2}
    assert measured.correctness.tolist() == [1, 1, 0, 1, 0, 1]
    assert metrics.measure("classify", rows(TRUE), found(FOUND), "accuracy").value == pytest.approx(4 / 6)


def test_a_row_without_a_prediction_is_wrong_and_no_class_of_its_own():
    measured = metrics.measure("classify", rows(["a", "b"]), found(["a", None]))
    assert measured.value == pytest.approx((1 + 0) / 2)
    assert measured.correctness.tolist() == [1, 0]
    assert measured.missing == 1


def test_a_predicted_label_that_no_row_has_lowers_the_f1_of_the_true_label_only():
    measured = metrics.measure("classify", rows(["a", "a"]), found(["a", "z"]))
    assert measured.value == pytest.approx(2 / 3)
    assert list(measured.others["classes"]) == ["a"]


def test_labels_are_compared_by_name_whatever_their_type():
    table = pa.table({"text": ["x", "y"], "label": pa.array([1, 2])})
    assert metrics.measure("classify", table, found(["1", "1"]), "accuracy").value == 0.5


def test_the_best_of_several_labels_counts_for_a_row_with_one_label():
    ranked = pa.array([[{"label": "b", "score": 0.7}, {"label": "a", "score": 0.3}]], pa.list_(LABEL))
    assert metrics.measure("classify", rows(["b"]), ranked, "accuracy").value == 1


def test_rows_with_several_labels_are_right_if_all_their_labels_are_found():
    table = pa.table({"text": ["x", "y", "z"], "label": [["a", "b"], ["b"], []]})
    given = [[("a", 0.9), ("b", 0.6)], [("a", 0.8), ("b", 0.7)], [("a", 0.1), ("b", 0.2)]]
    guesses = pa.array([[{"label": n, "score": s} for n, s in row] for row in given], pa.list_(LABEL))
    measured = metrics.measure("classify", table, guesses)
    # a: one right, one too many: 2/3; b: two right: 1.
    assert measured.value == pytest.approx((2 / 3 + 1) / 2)
    assert measured.correctness.tolist() == [1, 0, 1]


def test_a_label_of_the_model_without_rows_is_named_in_a_note():
    measured = metrics.measure("classify", rows(["a", "b"]), found(["a", "b"]), labels=["a", "b", "rare"])
    assert measured.value == 1
    assert measured.notes == [
        "the holdout has no row of 'rare'; macro_f1 is the mean over the other labels; label more rows of them"
    ]


@pytest.mark.parametrize(
    ("table", "metric", "said"),
    [
        (rows(["a"]), "bleu", "gate.metric is 'bleu', which cannot be computed for classify; choices: macro_f1, acc"),
        (rows([]), "macro_f1", "the holdout has no rows, so macro_f1 cannot be computed"),
        (rows(["a", None]), "accuracy", "row 1 of the holdout has no label (1 of 2 rows have none)"),
        (pa.table({"text": ["a"]}), "accuracy", "column 'label' is not in the rows; columns: text"),
        (pa.table({"text": ["a"], "label": [["a"]]}), "accuracy", "the rows have lists of labels, and the model gives"),
    ],
)
def test_what_cannot_be_computed_is_said_in_one_sentence(table, metric, said):
    with pytest.raises(SpecError) as raised:
        metrics.measure("classify", table, found(["a"] * len(table)), metric)
    assert said in str(raised.value)
    assert "\n" not in str(raised.value)


def test_labels_outside_the_label_map_are_refused_with_their_number():
    with pytest.raises(SpecError, match=r"data.holdout has the label 'spam' in 2 rows \(and 1 more\), .* ham, eggs"):
        metrics.check_labels("classify", rows(["ham", "spam", "spam", "x"]), ["ham", "eggs"])
    metrics.check_labels("classify", rows(["ham"]), ["ham", "eggs"])


def test_class_weights_without_a_limit_give_the_balanced_accuracy():
    weights = labels.class_weights({"a": 3, "b": 2, "c": 1}, limit=np.inf)
    assert weights.weights == pytest.approx({"a": 1 / 3, "b": 1 / 2, "c": 1})
    correctness = np.array([1, 1, 0, 1, 0, 1.0])
    assert weights.mean(TRUE, correctness) == pytest.approx((2 / 3 + 1 / 2 + 1) / 3)


def test_the_difference_of_two_weighted_rows_stays_within_one():
    weights = labels.class_weights({"a": 1000, "b": 10})
    assert weights.weights == pytest.approx({"a": 0.05, "b": 1.0})
    difference = weights.weighted(["a", "b", "new"], np.ones(3)) - weights.weighted(["a", "b", "new"], np.zeros(3))
    assert difference.tolist() == pytest.approx([0.05, 1.0, 1.0])
    assert labels.ClassWeights.from_json(weights.to_json()) == weights


def test_class_weights_of_a_label_without_rows_are_refused():
    with pytest.raises(SpecError, match="label 'b' has no rows, so class weights cannot be computed"):
        labels.class_weights({"a": 1, "b": 0})
