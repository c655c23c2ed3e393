"""Rows of several adapters in one batch give what a run for each adapter gives, for every task that has a model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from tests import tiny
from tests.rows_by_adapter import NAMES, SHAPES, by_row, check, one_run_each, same, who
from tests.tiny_adapters import lora
from transforms import registry
from transforms.annotators import classify as classifying
from transforms.by_row.annotator import RowAnnotator
from transforms.model import load
from transforms.reference import ModelRef

TEXTS = [text for text in tiny.texts(60) if text.strip()]


def rows(**columns: Any) -> pa.RecordBatch:
    return pa.record_batch({"text": TEXTS, "who": who(len(TEXTS))} | columns)


def test_classify_gives_each_row_the_scores_of_its_own_adapter(models, adapters):
    base = models / "sentiment"
    folders = adapters(base, "AutoModelForSequenceClassification")
    options = registry.get("classify").Options("text", top_k="all")
    annotator = check("classify", base, folders, options, rows())
    assert annotator.mixes


def test_rows_of_several_adapters_share_batches(models, adapters, monkeypatch):
    base = models / "sentiment"
    folders = [str(folder) for folder in adapters(base, "AutoModelForSequenceClassification")]
    module = registry.get("classify")
    reference = ModelRef(str(base), device="cpu", adapters=(*folders[:2], None, folders[2]))
    keys = {name: i for i, name in enumerate(NAMES)}
    annotator = RowAnnotator(module, module.Options("text"), load(reference, module.ARCHITECTURE), None, "who", keys)
    seen: list[set[int]] = []
    forward = classifying.logits

    def counted(model: Any, ids: list[list[int]], types: Any = None) -> Any:
        seen.append(set(annotator.adapters.selection.now.adapters))
        return forward(model, ids, types)

    monkeypatch.setattr(classifying, "logits", counted)
    annotation = annotator(rows())
    alone = module.load(module.Options("text"), load(ModelRef(str(base), device="cpu"), module.ARCHITECTURE))
    assert max(map(len, seen)) == 4
    # A batch for each adapter would have much more padding: there would be four times as many, a quarter as full.
    assert annotation.padded_tokens <= 1.02 * alone(rows()).padded_tokens


def test_each_row_gets_the_labels_of_its_adapter_s_own_head(models, tmp_path):
    base = models / "sentiment"
    labels = [["good", "bad"], ["a", "b", "c", "d", "e"], ["price", "size", "taste"]]
    head = "AutoModelForSequenceClassification"
    folders = [lora(base, tmp_path / f"{i}", i, head, own, **SHAPES[i]) for i, own in enumerate(labels)]
    options = registry.get("classify").Options("text")
    check("classify", base, folders, options, rows())
    check("classify", base, folders, registry.get("classify").Options("text", top_k="all"), rows())


def test_heads_of_a_base_without_one_come_from_the_adapters(models, tmp_path):
    base = models / "mlm"
    labels = [["good", "bad"], ["a", "b", "c"], ["x", "y", "z", "w"]]
    head = "AutoModelForSequenceClassification"
    saved = ["pooler", "classifier"]
    folders = [str(lora(base, tmp_path / f"{i}", i, head, own, modules_to_save=saved)) for i, own in enumerate(labels)]
    options = registry.get("classify").Options("text")
    reference = ModelRef(str(base), device="cpu", adapters=(*folders, folders[0]))
    _, got = by_row("classify", reference, options, rows())
    want, _ = one_run_each("classify", reference, options, rows())
    assert all(map(same, got, want))
    assert {value["label"] for value in got} > {"good", "a", "x"}


@pytest.mark.parametrize("name", ["ner", "ner_bytes"])
def test_ner_finds_the_entities_of_each_row_s_adapter(models, adapters, name):
    base = models / name
    folders = adapters(base, "AutoModelForTokenClassification")
    check("ner", base, folders, registry.get("ner").Options("text", long_text="window"), rows())


def test_ner_with_heads_of_other_entities(models, tmp_path):
    base = models / "ner"
    labels = [["O", "DRUG"], ["O", "B-LAW", "I-LAW", "B-COURT", "I-COURT", "B-DATE", "I-DATE"], ["O", "PART", "SHOP"]]
    head = "AutoModelForTokenClassification"
    folders = [lora(base, tmp_path / f"{i}", i, head, own, **SHAPES[i]) for i, own in enumerate(labels)]
    check("ner", base, folders, registry.get("ner").Options("text"), rows())


def test_answers_come_from_each_row_s_adapter(models, adapters):
    base = models / "answer"
    folders = adapters(base, "AutoModelForQuestionAnswering")
    options = registry.get("answer").Options("text", question="who is it?", top_k=3)
    check("answer", base, folders, options, rows())


def test_masks_are_filled_by_each_row_s_adapter(models, adapters):
    base = models / "mlm"
    folders = adapters(base, "AutoModelForMaskedLM")
    masked = [f"{text[:60]} [MASK] {text[60:120]}" for text in TEXTS]
    options = registry.get("fill_mask").Options("text", top_k=3)
    check("fill_mask", base, folders, options, rows(text=masked))


def test_vectors_are_those_of_each_row_s_adapter(models, adapters):
    base = models / "mlm"
    folders = adapters(base, "AutoModel")
    check("embed", base, folders, registry.get("embed").Options("text", pooling="mean", long_text="window"), rows())


def test_zero_shot_scores_labels_with_each_row_s_adapter(models, adapters):
    base = models / "nli"
    folders = adapters(base, "AutoModelForSequenceClassification", modules_to_save=[])
    options = registry.get("zero_shot").Options("text", labels=["price", "size", "taste of it"])
    check("zero_shot", base, folders, options, rows())


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_a_rounded_model_is_as_near_to_float32_as_with_one_adapter(models, adapters, dtype):
    base = models / "sentiment"
    folders = [str(folder) for folder in adapters(base, "AutoModelForSequenceClassification")]
    options = registry.get("classify").Options("text", top_k="all")
    exact = ModelRef(str(base), device="cpu", adapters=(*folders[:2], None, folders[2]))
    rounded = replace(exact, dtype=dtype)
    want, _ = one_run_each("classify", exact, options, rows())
    alone, _ = one_run_each("classify", rounded, options, rows())
    annotator, got = by_row("classify", rounded, options, rows())
    assert annotator.mixes

    def error(values: list[Any]) -> float:
        def scores(value: Any) -> list[float]:
            return [each["score"] for each in sorted(value, key=lambda each: each["label"])]

        return float(np.mean([np.abs(np.subtract(scores(a), scores(b))) for a, b in zip(values, want, strict=True)]))

    assert error(got) <= 1.5 * error(alone) + 1e-3


def test_rows_with_adapters_of_their_own_are_cut_in_their_places(models, adapters):
    base, module = models / "sentiment", registry.get("classify")
    folders = [str(folder) for folder in adapters(base, "AutoModelForSequenceClassification")]
    reference = ModelRef(str(base), device="cpu", adapters=(*folders[:2], None, folders[2]))
    keys = {name: i for i, name in enumerate(NAMES)}
    made = RowAnnotator(module, module.Options("text"), load(reference, module.ARCHITECTURE), None, "who", keys)
    texts = ["a", " a" * 100, "b", " b" * 100, None, " c" * 100]
    who = ["acme", "globex", "initech", "acme", "base", "nobody"]
    found = made(pa.record_batch({"text": texts, "who": who}))
    assert [failure.row for failure in found.failures] == [5]
    assert found.cut_at.tolist() == [0, tiny.WINDOW, 0, tiny.WINDOW, 0, 0]
