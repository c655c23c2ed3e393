"""Layers of our own give what the network's gave, with padding and without."""

import subprocess
import sys

import pytest
import torch
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertForTokenClassification,
    BertModel,
    DebertaV2Config,
    DebertaV2ForSequenceClassification,
    DebertaV2Model,
    DistilBertConfig,
    DistilBertForTokenClassification,
    DistilBertModel,
    EncoderDecoderConfig,
    EncoderDecoderModel,
    GPT2Config,
    GPT2ForSequenceClassification,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
)

from tests.transforms.engines.shapes import DISTIL, FAMILIES, LENGTHS, SHAPE, build, padded_inputs
from transforms import engines
from transforms.engines import encoder, int8, unpadded

HEADS = [
    (BertForTokenClassification, BertConfig, SHAPE),
    (BertForQuestionAnswering, BertConfig, {**SHAPE, "num_labels": 2}),
    (BertForMaskedLM, BertConfig, SHAPE),
    (BertModel, BertConfig, SHAPE),
    (RobertaForMaskedLM, RobertaConfig, SHAPE),
    (DistilBertForTokenClassification, DistilBertConfig, DISTIL),
]
UNKNOWN = [
    (GPT2ForSequenceClassification, GPT2Config, {"n_embd": 32, "n_layer": 2, "n_head": 2}),
    (DebertaV2ForSequenceClassification, DebertaV2Config, SHAPE),
    # Causal.
    (BertForSequenceClassification, BertConfig, {**SHAPE, "is_decoder": True}),
]


def layers(network):
    return [module for module in network.modules() if isinstance(module, encoder.EncoderLayer)]


def of_tokens(output):
    """What a head gives, without what it gives for padding."""
    first = output[0]
    per_token = first.shape[:2] == (len(LENGTHS), max(LENGTHS))
    return torch.cat([row[:length] for row, length in zip(first, LENGTHS, strict=True)]) if per_token else first


@pytest.mark.parametrize("family", [*FAMILIES, *HEADS], ids=lambda family: family[0].__name__)
@pytest.mark.parametrize("padding", ["padded", "unpadded"])
def test_fused_layers_give_the_same(family, padding):
    network, inputs = build(*family), padded_inputs()
    with torch.inference_mode():
        want = of_tokens(network(**inputs))
        assert encoder.fuse(network, first_token=family in FAMILIES)
        assert len(layers(network)) == 3
        assert layers(network)[-1].first_token == (family in FAMILIES)
        compute = network if padding == "padded" else unpadded.unpad(network)
        torch.testing.assert_close(of_tokens(compute(**inputs)), want, atol=5e-5, rtol=1e-5)


def test_an_encoder_that_is_half_of_a_network_is_left_alone():
    halves = [BertConfig(vocab_size=120, **SHAPE), BertConfig(vocab_size=120, **SHAPE, is_decoder=True)]
    config = EncoderDecoderConfig.from_encoder_decoder_configs(*halves)
    network = EncoderDecoderModel(config).eval()
    assert not encoder.fuse(network, first_token=False)
    assert not layers(network)


@pytest.mark.parametrize("family", UNKNOWN, ids=lambda family: f"{family[0].__name__}-{len(family[2])}")
def test_a_network_of_other_layers_is_left_alone(family):
    network = build(*family)
    assert not encoder.fuse(network, first_token=True)
    assert not layers(network)


def test_a_head_that_reads_every_token_keeps_the_whole_last_layer():
    class Mean(BertForSequenceClassification):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            hidden = self.bert(**inputs).last_hidden_state
            output.logits = output.logits + hidden.sum(1)[:, :3]
            return output

    network, inputs = build(Mean, BertConfig, SHAPE), padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).logits
        assert encoder.fuse(network, first_token=True)
        assert not layers(network)[-1].first_token
        torch.testing.assert_close(network(**inputs).logits, want, atol=1e-4, rtol=1e-5)


BODIES = [
    (BertModel, BertConfig, SHAPE),
    (RobertaModel, RobertaConfig, SHAPE),
    (DistilBertModel, DistilBertConfig, DISTIL),
]


@pytest.mark.parametrize("family", BODIES, ids=lambda family: family[0].__name__)
@pytest.mark.parametrize("how", ["float32", "int8", "unpadded"])
def test_a_caller_that_reads_only_the_first_token_gets_only_that_one(family, how):
    network, inputs = build(*family), padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).last_hidden_state[:, :1]
        assert encoder.fuse(network, first_token=False)
        compute = unpadded.unpad(network) if how == "unpadded" else network
        if how == "int8":
            int8.quantise(network)
            want = network(**inputs).last_hidden_state[:, :1]
        assert encoder.keep_first_token(network, compute)
        got = compute(**inputs).last_hidden_state
        tolerance = 0.1 if how == "int8" else 5e-5
        torch.testing.assert_close(got, want, atol=tolerance, rtol=tolerance)


def test_a_network_that_reads_every_token_of_the_last_layer_is_not_reduced():
    class Sum(BertModel):
        def forward(self, **inputs):
            output = super().forward(**inputs)
            output.last_hidden_state = output.last_hidden_state + output.last_hidden_state.sum(1, keepdim=True)
            return output

    network, inputs = build(Sum, BertConfig, SHAPE), padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).last_hidden_state
        assert encoder.fuse(network, first_token=False)
        assert not encoder.keep_first_token(network, network)
        got = network(**inputs).last_hidden_state
        torch.testing.assert_close(got[0], want[0], atol=1e-4, rtol=1e-5)


def test_a_network_of_other_layers_computes_every_token():
    network = build(DebertaV2Model, DebertaV2Config, SHAPE)
    assert not encoder.keep_first_token(network, network)


def test_layers_that_change_the_output_are_restored(monkeypatch):
    monkeypatch.setattr(encoder, "_attend", lambda query, key, value, mask: value)
    network = build(*FAMILIES[0])
    kept = list(network.bert.encoder.layer)
    assert not encoder.fuse(network, first_token=True)
    assert list(network.bert.encoder.layer) == kept


def test_unpacked_rows_are_in_their_original_positions():
    mask = padded_inputs()["attention_mask"]
    packing = unpadded.Packing.of(mask, torch.device("cpu"))
    rows = torch.randn(*mask.shape, 4) * mask[..., None]
    packed = packing.pack(rows)
    assert packed.shape == (sum(LENGTHS), 4)
    assert packing.offsets.tolist() == [0, 23, 43, 52, 54, 55]
    assert torch.equal(packing.pad(packed), rows)
    assert torch.equal(packing.first(packed), rows[:, 0])


@pytest.mark.parametrize("broken", ["says no", "says something else"])
def test_a_device_without_the_kernel_keeps_the_padding(broken, monkeypatch, caplog):
    def attend(query, *_):
        if broken == "says no":
            raise RuntimeError("no kernel for heads 8 wide")
        return torch.zeros_like(query)

    monkeypatch.setattr(unpadded, "available", lambda *_: True)
    monkeypatch.setattr(unpadded, "attend", attend)
    network, inputs = build(*FAMILIES[0]), padded_inputs()
    names = frozenset(inputs)
    with torch.inference_mode():
        want = network(**inputs).logits
        compute = engines.prepare(network, "torch", "float32", "AutoModelForSequenceClassification", names)
        torch.testing.assert_close(compute(**inputs).logits, want, atol=1e-5, rtol=1e-5)
    assert "batches keep their padding" in caplog.text


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA GPU here")
@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family[0].__name__)
def test_a_gpu_computes_without_padding(family):
    shape = {"hidden_size": 128, "dim": 128, "n_heads": 2, "num_attention_heads": 2, "num_hidden_layers": 2}
    network = build(family[0], family[1], {**family[2], **{k: v for k, v in shape.items() if k in family[2]}})
    inputs = padded_inputs()
    with torch.inference_mode():
        want = network(**inputs).logits
        network = network.to("cuda", torch.bfloat16)
        compute = engines.prepare(network, "torch", "bfloat16", "AutoModelForSequenceClassification", frozenset(inputs))
        assert compute.__qualname__.startswith("unpad.")
        torch.testing.assert_close(compute(**inputs).logits.float().cpu(), want, atol=0.1, rtol=0.1)


def test_architectures_of_other_models_are_not_imported():
    program = (
        "import sys\nfrom transforms import lean\nlean.load()\nfrom transforms.engines import encoder\n"
        "print(sorted(name for name in encoder.LAYERS if name.rpartition('.')[0] in sys.modules))"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert ran.stdout.strip() == "[]", ran.stderr
