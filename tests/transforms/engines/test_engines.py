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
    CamembertConfig,
    CamembertForSequenceClassification,
    DistilBertConfig,
    DistilBertForSequenceClassification,
    ElectraConfig,
    ElectraForSequenceClassification,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForSequenceClassification,
    XLMRobertaConfig,
    XLMRobertaForSequenceClassification,
)

from tests import tiny
from transforms import engines
from transforms.engines import first_token, int8, onnx, packed
from transforms.errors import ModelError
from transforms.model import ModelRef, load, logits
from transforms.tasks import classify, ner

TEXTS = tiny.texts(60)
SHAPE = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48}
DISTIL = {"dim": 32, "n_layers": 3, "n_heads": 4, "hidden_dim": 48}
FAMILIES = [
    (BertForSequenceClassification, BertConfig, SHAPE),
    (RobertaForSequenceClassification, RobertaConfig, SHAPE),
    (XLMRobertaForSequenceClassification, XLMRobertaConfig, SHAPE),
    (CamembertForSequenceClassification, CamembertConfig, SHAPE),
    (ElectraForSequenceClassification, ElectraConfig, {**SHAPE, "embedding_size": 16}),
    (DistilBertForSequenceClassification, DistilBertConfig, DISTIL),
]
has_onnx = all(importlib.util.find_spec(name) for name in onnx.NEEDS)


def build(network, config, shape):
    torch.manual_seed(0)
    return network(config(vocab_size=120, num_labels=3, initializer_range=0.5, pad_token_id=1, **shape)).eval()


def padded_inputs():
    ids = torch.randint(2, 120, (5, 23), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(23) < torch.tensor([23, 20, 9, 2, 1])[:, None]).long()
    return {"input_ids": torch.where(mask.bool(), ids, 1), "attention_mask": mask}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[0].__name__)
def test_a_last_layer_for_the_first_token_gives_the_same_logits(family):
    network, inputs = build(*family), padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).logits
        assert first_token.shorten(network)
        torch.testing.assert_close(network(**inputs).logits, want, atol=1e-5, rtol=1e-5)


def test_a_network_whose_head_reads_another_token_is_left_alone():
    shape = {"n_embd": 32, "n_layer": 2, "n_head": 2}
    assert not first_token.shorten(build(GPT2ForSequenceClassification, GPT2Config, shape))


def test_a_head_that_reads_every_token_puts_the_whole_layer_back():
    class Mean(BertForSequenceClassification):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            hidden = self.bert(**inputs).last_hidden_state
            output.logits = output.logits + hidden.sum(1)[:, :3]
            return output

    network, inputs = build(Mean, BertConfig, SHAPE), padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).logits
        assert not first_token.shorten(network)
        torch.testing.assert_close(network(**inputs).logits, want)


@pytest.mark.skipif(not packed.available(torch.float32), reason="this CPU or torch build has no packed linear layers")
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


@pytest.mark.skipif(not packed.available(torch.float32), reason="this CPU or torch build has no packed linear layers")
def test_the_gelu_after_a_layer_is_computed_once():
    network, inputs = build(*FAMILIES[0]), padded_inputs()
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
