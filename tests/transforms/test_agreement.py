"""Agreement is one where nothing that matters differs, and falls with every row that says something else."""

import numpy as np
import pyarrow as pa
import pytest

from transforms.agreement import agreement

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])


def labels(*names, score=0.9):
    return pa.array([name and {"label": name, "score": score} for name in names], LABEL)


def test_equal_labels_agree_at_any_score():
    assert agreement(labels("a", "b", None), labels("a", "b", None, score=0.5)) == 1.0
    assert agreement(labels("a", "b", "a", "b"), labels("a", "b", "a", "a")) == 0.75


def test_a_ranking_agrees_by_its_best_label():
    def ranking(*order):
        return [{"label": label, "score": 1 / (i + 1)} for i, label in enumerate(order)]

    exact = pa.array([ranking("a", "b", "c"), ranking("b", "a", "c")], pa.list_(LABEL))
    assert agreement(exact, pa.array([ranking("a", "c", "b"), ranking("b", "a", "c")], pa.list_(LABEL))) == 1.0
    assert agreement(exact, pa.array([ranking("a", "b", "c"), ranking("a", "b", "c")], pa.list_(LABEL))) == 0.5


def test_spans_agree_by_their_f1():
    def span(label, start):
        return {"label": label, "start": start, "end": start + 3, "score": 0.5}

    exact = pa.array([[span("PER", 0), span("LOC", 9)], []])
    assert agreement(exact, exact) == 1.0
    half = pa.array([[span("PER", 0), span("PER", 9)], []])
    assert agreement(exact, half) == pytest.approx((0.5 + 1) / 2)


def test_vectors_agree_by_their_cosine():
    vectors = np.random.default_rng(0).normal(size=(6, 8)).astype(np.float32)
    exact = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 8)
    assert agreement(exact, exact) == pytest.approx(1.0)
    opposite = pa.FixedSizeListArray.from_arrays(pa.array(-vectors.ravel()), 8)
    assert agreement(exact, opposite) == pytest.approx(-1.0)


def test_a_model_with_one_label_agrees_by_its_scores():
    exact = pa.array([{"label": "stars", "score": float(i)} for i in range(10)], LABEL)
    near = pa.array([{"label": "stars", "score": i + 0.01} for i in range(10)], LABEL)
    far = pa.array([{"label": "stars", "score": i + 2.0} for i in range(10)], LABEL)
    assert agreement(exact, near) == 1.0
    assert agreement(exact, far) == 0.0


def test_text_agrees_where_it_is_equal():
    assert agreement(pa.array(["a", "b"]), pa.array(["a", "c"])) == 0.5


def test_a_column_of_nulls_agrees_with_itself_only():
    assert agreement(labels(None, None), labels(None, None)) == 1.0
    assert agreement(labels("a", "b"), labels(None, None)) == 0.0
