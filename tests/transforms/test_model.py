"""A model reference becomes a model: adapters with their heads, the base checked, the window measured."""

import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    BertConfig,
    DistilBertConfig,
    T5Config,
)

from tests import tiny
from transforms import device
from transforms.device import Shape, choose_dtype
from transforms.errors import ModelError
from transforms.model import ModelRef, load, logits
from transforms.tasks import classify

TEXTS = tiny.texts(40)


def test_a_head_that_was_never_trained_is_refused(models):
    with pytest.raises(ModelError, match=r"has no weights for bert.pooler.*it was not trained for this task"):
        load(ModelRef(str(models / "mlm"), device="cpu"), AutoModelForSequenceClassification)


def test_the_window_is_what_tokenizer_and_positions_both_allow(models, tmp_path):
    roberta = load(ModelRef(str(models / "ner_bytes"), device="cpu"), AutoModelForTokenClassification)
    assert roberta.max_length == tiny.WINDOW
    copy = shutil.copytree(models / "ner_bytes", tmp_path / "copy")
    tokenizer = AutoTokenizer.from_pretrained(copy)
    tokenizer.model_max_length = int(1e30)
    tokenizer.save_pretrained(copy)
    unlimited = load(ModelRef(str(copy), device="cpu"), AutoModelForTokenClassification)
    assert unlimited.max_length == tiny.WINDOW
    assert logits(unlimited, [list(range(5, 5 + tiny.WINDOW))]).shape[1] == tiny.WINDOW


def test_a_named_dtype_is_used_unchanged():
    assert choose_dtype("float16", "cpu") == "float16"
    assert choose_dtype("bfloat16", "cpu") == "bfloat16"


@pytest.mark.parametrize(
    ("flag", "speedup", "want"),
    [(True, 4.4, "bfloat16"), (True, 2.0, "bfloat16"), (True, 0.55, "float32"), (False, 4.4, "float32")],
)
def test_a_cpu_uses_bfloat16_only_if_it_supports_it_and_it_is_clearly_faster(monkeypatch, flag, speedup, want):
    # A machine has one processor; the others are told.
    monkeypatch.setattr(device, "has_bfloat16", lambda: flag)
    monkeypatch.setattr(device, "bfloat16_speedup", lambda shape: speedup)
    assert choose_dtype("auto", "cpu") == want


def test_the_dtype_is_the_same_however_often_this_machine_is_asked():
    answers = set()
    for _ in range(5):
        device.bfloat16_speedup.cache_clear()
        answers.add(choose_dtype("auto", "cpu"))
    assert len(answers) == 1


def test_bfloat16_is_timed_at_the_sizes_of_the_model(monkeypatch, models, tmp_path):
    asked = []
    monkeypatch.setattr(device, "has_bfloat16", lambda: True)
    monkeypatch.setattr(device, "bfloat16_speedup", lambda shape: asked.append(shape) or 1.0)
    shapes = [
        Shape.of(BertConfig(hidden_size=384, intermediate_size=1536)),
        Shape.of(DistilBertConfig(dim=512, hidden_dim=1000)),
        Shape.of(T5Config(d_model=256, d_ff=900)),
        Shape.of(BertConfig(hidden_size=4096, intermediate_size=11008)),
        Shape(),
    ]
    for shape in shapes:
        choose_dtype("auto", "cpu", lambda shape=shape: shape)
    assert asked == [(384, 1536), (512, 1000), (256, 900), (1024, 4096), (768, 3072)]


def test_sizes_are_not_asked_for_where_the_cpu_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(device, "has_bfloat16", lambda: False)
    assert choose_dtype("auto", "cpu", lambda: pytest.fail("asked")) == "float32"


def test_timing_leaves_the_number_of_threads_as_it_was():
    before = torch.get_num_threads()
    assert device.bfloat16_speedup(Shape(64, 128)) > 0
    assert torch.get_num_threads() == before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_what_the_cpu_gives(models):
    batch = pa.record_batch({"text": TEXTS})
    on = {}
    for kind in ("cpu", "cuda"):
        model = load(ModelRef(str(models / "sentiment"), device=kind), classify.ARCHITECTURE)
        on[kind] = classify.load(classify.Options("text"), model)(batch).values
    assert on["cpu"].field("label").equals(on["cuda"].field("label"))
    np.testing.assert_allclose(on["cpu"].field("score"), on["cuda"].field("score"), atol=1e-4)
