"""Whatever computes a network, the outputs are the network's."""

import importlib.util

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    BertConfig,
    BertForSequenceClassification,
)

from tests import tiny
from tests.transforms.engines.shapes import SHAPE, build, padded_inputs
from transforms import engines
from transforms.engines import encoder, int8, onnx, packed, ranges
from transforms.errors import ModelError
from transforms.model import ModelRef, load, logits
from transforms.tasks import classify, ner

TEXTS = tiny.texts(60)
needs_packed = pytest.mark.skipif(
    not packed.available(torch.float32), reason="this CPU or torch build has no packed linear layers"
)
has_onnx = all(importlib.util.find_spec(name) for name in onnx.NEEDS)


@needs_packed
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gelu", [False, True])
def test_packed_layers_give_what_linear_layers_give(dtype, gelu):
    if not packed.available(dtype):
        pytest.skip(f"this CPU does not compute {dtype} natively")
    torch.manual_seed(0)
    linear, rows = torch.nn.Linear(48, 96).to(dtype), torch.randn(3, 7, 48, dtype=dtype)
    want = torch.nn.functional.gelu(linear(rows)) if gelu else linear(rows)
    tolerance = 1e-5 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(packed.PackedLinear(linear, gelu)(rows), want.detach(), atol=tolerance, rtol=tolerance)


@needs_packed
def test_the_gelu_after_a_layer_is_computed_once():
    network, inputs = build(BertForSequenceClassification, BertConfig, SHAPE), padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).logits
        packed.pack(network, torch.float32)
        intermediate = network.bert.encoder.layer[0].intermediate
        assert intermediate.dense.after[0] == "gelu"
        assert isinstance(intermediate.intermediate_act_fn, torch.nn.Identity)
        torch.testing.assert_close(network(**inputs).logits, want, atol=1e-5, rtol=1e-5)


def test_an_activation_that_is_no_exact_gelu_stays():
    network = build(BertForSequenceClassification, BertConfig, {**SHAPE, "hidden_act": "gelu_new"})
    with torch.inference_mode():
        want = network(**padded_inputs()).logits
        packed.pack(network, torch.float32)
        torch.testing.assert_close(network(**padded_inputs()).logits, want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gelu", [False, True])
def test_an_int8_layer_is_off_by_no_more_than_its_rounding(gelu):
    torch.manual_seed(0)
    linear, rows = torch.nn.Linear(256, 64), torch.randn(40, 256)
    want = torch.nn.functional.gelu(linear(rows)) if gelu else linear(rows)
    got = int8.Int8Linear(linear, gelu)(rows)
    assert got.shape == want.shape
    assert not torch.equal(got, want)
    torch.testing.assert_close(got, want.detach(), atol=0.05, rtol=0)


@pytest.mark.parametrize("steps", [255, 127])
def test_values_outside_a_fixed_range_are_clamped(monkeypatch, steps):
    monkeypatch.setattr(int8, "steps", lambda: steps)
    torch.manual_seed(0)
    linear, rows = torch.nn.Linear(64, 16), torch.randn(40, 64)
    layer = int8.Int8Linear(linear)
    layer.input = int8.steps_of(-1.0, 1.5, steps)
    want = linear(rows.clamp(-1.0, 1.5))
    torch.testing.assert_close(layer(rows), want.detach(), atol=0.06, rtol=0)


def test_a_layer_with_a_fixed_range_gives_a_row_the_same_beside_other_rows():
    torch.manual_seed(0)
    layer, rows = int8.Int8Linear(torch.nn.Linear(64, 16)), torch.randn(40, 64)
    assert not torch.equal(layer(rows)[:1], layer(rows[:1]))
    layer.input = int8.steps_of(-3.0, 3.0, 255)
    assert torch.equal(layer(rows)[:1], layer(rows[:1]))


def test_a_residual_is_added_in_the_pass_of_the_layer():
    torch.manual_seed(0)
    layer, rows, residual = int8.Int8Linear(torch.nn.Linear(48, 16)), torch.randn(3, 7, 48), torch.randn(3, 7, 16)
    want = layer(rows) + residual
    torch.testing.assert_close(layer.add(rows, residual.clone()), want, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [255, 127])
def test_the_feed_forward_of_an_encoder_passes_eight_bits_on(monkeypatch, steps):
    monkeypatch.setattr(int8, "steps", lambda: steps)
    network, inputs = build(BertForSequenceClassification, BertConfig, SHAPE), padded_inputs()
    with torch.inference_mode():
        assert encoder.fuse(network, first_token=True)
        want, found = network(**inputs).logits, {}
        with ranges.observed(network, found):
            network(**inputs)
        int8.quantise(network, found)
        fused = network.bert.encoder.layer[0]
        assert fused.up(torch.randn(2, 32)).dtype == torch.uint8
        got = network(**inputs).logits
        int8.fix(network, None)
        assert fused.up(torch.randn(2, 32)).dtype == torch.float32
        per_batch = network(**inputs).logits
    assert (got - want).abs().max() < 2 * (per_batch - want).abs().max() + 0.02 * want.abs().max()


@pytest.mark.parametrize("rows", [torch.randn(3, 5, 7), torch.rand(2, 9) + 3, -torch.rand(9), torch.zeros(4)])
def test_activations_are_rounded_to_the_nearest_of_256_steps(rows):
    rounded, scale, zero = int8.round_rows(rows)
    assert (rounded.shape, rounded.dtype) == (rows.shape, torch.uint8)
    assert (rounded.float() - zero).mul(scale).sub(rows).abs().max() <= scale / 2 * 1.001
    # In double precision, as the scale is.
    high, low = max(float(rows.max()), 0.0), min(float(rows.min()), 0.0)
    assert scale <= (high - low) / 255 + torch.finfo().tiny


def test_int8_is_refused_without_a_cpu():
    with pytest.raises(ModelError, match=r"dtype int8 needs a CPU .* and this is cuda; use dtype: auto"):
        engines.choose("auto", "int8", torch.device("cuda"))


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_onnx_is_refused_for_what_it_does_not_compute(dtype):
    with pytest.raises(ModelError, match=f"engine onnx computes float32 on a CPU, and this is {dtype} on cpu"):
        engines.choose("onnx", dtype, torch.device("cpu"))


def test_onnx_that_is_not_installed_is_named(monkeypatch):
    # The packages may be here or not; the sentence is for where they are not.
    monkeypatch.setattr(onnx, "NEEDS", ("json", "no_such_runtime"))
    with pytest.raises(
        ModelError, match=r"needs no_such_runtime, not installed here; pip install 'nightscribe\[onnx\]'"
    ):
        engines.choose("onnx", "auto", torch.device("cpu"))


@pytest.mark.skipif(not has_onnx, reason="the extra [onnx] is not installed")
@pytest.mark.parametrize(
    ("folder", "task", "architecture"),
    [
        ("sentiment", classify, AutoModelForSequenceClassification),
        ("ner_bytes", ner, AutoModelForTokenClassification),
    ],
)
def test_onnx_runtime_gives_what_torch_gives(models, folder, task, architecture):
    batch = pa.record_batch({"text": TEXTS})
    values = {}
    for engine in ("torch", "onnx"):
        model = load(ModelRef(str(models / folder), device="cpu", engine=engine), architecture)
        values[engine] = task.load(task.Options("text"), model)(batch).values
    said, scores = ({e: pa.table({"v": v}).flatten() for e, v in values.items()} for _ in range(2))
    if folder == "sentiment":
        assert said["torch"]["v.label"].equals(said["onnx"]["v.label"])
        np.testing.assert_allclose(scores["torch"]["v.score"], scores["onnx"]["v.score"], atol=1e-4)
    else:
        flat = {engine: column.flatten() for engine, column in values.items()}
        for field in ("label", "text", "start", "end"):
            assert flat["torch"].field(field).equals(flat["onnx"].field(field))
        np.testing.assert_allclose(flat["torch"].field("score"), flat["onnx"].field("score"), atol=1e-4)


def test_a_batch_of_one_token_is_computed(models):
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), AutoModelForSequenceClassification)
    assert logits(model, [[2]]).shape == (1, 3)
