"""ner gives what transformers' token-classification pipeline gives; offsets are code points of the original text."""

import numpy as np
import pyarrow as pa
import pytest
from transformers import pipeline

from tests import tiny
from transforms.annotators import ner as annotator
from transforms.model import ModelRef, load
from transforms.tasks import ner

TEXTS = tiny.texts(100)


def annotate(folder, texts, max_tokens=None, **options):
    model = load(ModelRef(str(folder), device="cpu"), ner.ARCHITECTURE)
    task = ner.load(ner.Options("text", **options), model, max_tokens)
    return task(pa.record_batch({"text": pa.array(texts, pa.string())})).values


def assert_same(got, want, texts):
    assert sum(map(len, want)) > len(texts)
    for row, (g, w) in enumerate(zip(got.to_pylist(), want, strict=True)):
        assert [(s["label"], s["start"], s["end"]) for s in g] == [(s["entity_group"], s["start"], s["end"]) for s in w]
        np.testing.assert_allclose([s["score"] for s in g], [s["score"] for s in w], atol=1e-4)
        assert all(s["text"] == texts[row][s["start"] : s["end"]] for s in g)


@pytest.mark.filterwarnings("ignore:Tokenizer does not support real words")
@pytest.mark.parametrize("how", ["simple", "first", "average", "max"])
@pytest.mark.parametrize("name", ["ner", "ner_lower", "ner_plain", "ner_bytes"])
def test_spans_equal_the_pipeline(models, name, how):
    reference = pipeline("token-classification", model=str(models / name), device="cpu", aggregation_strategy=how)
    assert_same(annotate(models / name, TEXTS, aggregation=how, long_text="truncate"), reference(TEXTS), TEXTS)


@pytest.mark.parametrize("name", ["ner", "ner_bytes"])
@pytest.mark.parametrize("stride", [0, 16])
def test_windows_of_long_texts_equal_the_pipeline_with_the_same_stride(models, name, stride):
    long = [text for text in TEXTS if len(text) > 200]
    assert len(long) > 5
    reference = pipeline(
        "token-classification", model=str(models / name), device="cpu", aggregation_strategy="simple", stride=stride
    )
    assert_same(annotate(models / name, long, stride=stride), reference(long), long)


def test_null_texts_are_null_and_texts_without_entities_are_empty_lists(models):
    got = annotate(models / "ner", [None, "", " "])
    assert got.type == pa.list_(ner.ENTITY)
    assert got.to_pylist() == [None, None, []]


def test_the_token_budget_does_not_change_the_spans(models):
    wide, narrow = (annotate(models / "ner", TEXTS, max_tokens=n).to_pylist() for n in (4096, 64))
    places = [[[(s["label"], s["start"], s["end"]) for s in row] for row in spans] for spans in (wide, narrow)]
    assert places[0] == places[1]


@pytest.mark.parametrize("how", ["simple", "average"])
def test_rows_read_together_have_the_spans_of_each_alone(models, monkeypatch, how):
    texts = [*TEXTS, None, *TEXTS[:20]]
    together = annotate(models / "ner_bytes", texts, max_tokens=1, aggregation=how, stride=8)
    monkeypatch.setattr(annotator, "GROUP_TOKENS", 1)
    assert annotate(models / "ner_bytes", texts, max_tokens=1, aggregation=how, stride=8).equals(together)
    assert together.slice(0, 20).equals(together.slice(len(TEXTS) + 1))
