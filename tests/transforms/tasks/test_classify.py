"""classify gives what transformers' text-classification pipeline gives."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import pipeline

from tests import tiny
from transforms.contract import Annotation
from transforms.model import ModelRef, load
from transforms.tasks import classify

TEXTS = tiny.texts(120)


def annotate(folder, texts=TEXTS, max_tokens=None, **options) -> Annotation:
    model = load(ModelRef(str(folder), device="cpu"), classify.ARCHITECTURE)
    task = classify.load(classify.Options("text", **options), model, max_tokens)
    return task(pa.record_batch({"text": pa.array(texts, pa.string())}))


def reference(folder, **options):
    return pipeline("text-classification", model=str(folder), device="cpu")(
        TEXTS, truncation=True, max_length=tiny.WINDOW, **options
    )


@pytest.mark.parametrize("name", ["sentiment", "spam", "stars"])
def test_one_label_equals_the_pipeline(models, name):
    got = annotate(models / name).values.to_pylist()
    want = reference(models / name)
    assert [g["label"] for g in got] == [w["label"] for w in want]
    np.testing.assert_allclose([g["score"] for g in got], [w["score"] for w in want], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "ours", "theirs"), [("sentiment", 2, 2), ("sentiment", "all", None), ("topics", None, None)]
)
def test_lists_of_labels_equal_the_pipeline(models, name, ours, theirs):
    got = annotate(models / name, top_k=ours).values
    assert got.type == pa.list_(classify.LABEL)
    for g, w in zip(got.to_pylist(), reference(models / name, top_k=theirs), strict=True):
        assert [item["label"] for item in g] == [item["label"] for item in w]
        np.testing.assert_allclose([item["score"] for item in g], [item["score"] for item in w], atol=1e-4)


def test_null_and_empty_texts_give_null_and_no_failure(models):
    annotation = annotate(models / "sentiment", [None, "", "fine", None])
    assert annotation.values.is_null().to_pylist() == [True, True, False, True]
    assert not annotation.failures
    listed = annotate(models / "topics", [None, "fine", ""]).values
    assert listed.is_null().to_pylist() == [True, False, True]
    assert len(listed[1]) == 3


def test_a_batch_without_texts_gives_nulls(models):
    for texts in ([], [None, None], [""]):
        assert annotate(models / "sentiment", texts).values.to_pylist() == [None] * len(texts)


def test_the_token_budget_does_not_change_the_answer(models):
    wide, narrow = (annotate(models / "sentiment", max_tokens=n).values for n in (4096, 64))
    assert wide.field("label").equals(narrow.field("label"))
    np.testing.assert_allclose(wide.field("score").to_numpy(), narrow.field("score").to_numpy(), atol=1e-5)


def test_windows_average_the_scores_of_a_long_text_by_tokens(models):
    long = " ".join(TEXTS[20:40])
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), classify.ARCHITECTURE)
    task = classify.load(classify.Options("text", top_k="all", long_text="window", stride=8), model)
    got = task(pa.record_batch({"text": [long, "short"]})).values.to_pylist()
    encoded = model.tokenizer(long, truncation=True, max_length=64, stride=8, return_overflowing_tokens=True)
    probabilities, weights = [], []
    for ids in encoded["input_ids"]:
        with torch.inference_mode():
            probabilities.append(torch.softmax(model.network(torch.tensor([ids])).logits[0], -1).numpy())
        weights.append(len(ids))
    assert len(weights) > 3
    want = np.average(probabilities, axis=0, weights=weights)
    scores = {item["label"]: item["score"] for item in got[0]}
    np.testing.assert_allclose([scores[label] for label in ("negative", "neutral", "positive")], want, atol=1e-5)


def test_other_string_types_are_read_too(models):
    plain = annotate(models / "sentiment").values
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), classify.ARCHITECTURE)
    task = classify.load(classify.Options("text"), model)
    for array in (
        pa.array(TEXTS, pa.large_string()),
        pa.array(TEXTS).dictionary_encode(),
        pa.array(TEXTS, pa.string_view()),
    ):
        assert task(pa.record_batch({"text": array})).values.equals(plain)


def test_a_row_that_makes_the_model_raise_fails_alone(models, monkeypatch):
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), classify.ARCHITECTURE)
    task = classify.load(classify.Options("text"), model)
    batch = pa.record_batch({"text": TEXTS})
    clean = task(batch).values
    forward = task.forward
    poison = model.tokenizer(TEXTS[17], truncation=True, max_length=64)["input_ids"]

    def fragile(sequences):
        if any(s.ids == poison for s in sequences):
            raise RuntimeError("index out of range")
        return forward(sequences)

    monkeypatch.setattr(task, "forward", fragile)
    annotation = task(batch)
    assert [(f.row, f.error_type, f.message) for f in annotation.failures] == [
        (17, "RuntimeError", "index out of range")
    ]
    assert annotation.values[17].as_py() is None
    np.testing.assert_allclose(
        annotation.values.field("score").to_numpy()[18:], clean.field("score").to_numpy()[18:], atol=1e-5
    )


def test_a_result_that_is_not_finite_fails_its_row(models, monkeypatch):
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), classify.ARCHITECTURE)
    task = classify.load(classify.Options("text"), model)
    forward = task.forward
    monkeypatch.setattr(
        task, "forward", lambda s: torch.where(torch.arange(len(s))[:, None] == 0, torch.nan, forward(s))
    )
    annotation = task(pa.record_batch({"text": ["a b c d", "a", "b"]}))
    assert [(f.row, f.error_type) for f in annotation.failures] == [(0, "FloatingPointError")]
    assert annotation.values.is_null().to_pylist() == [True, False, False]
