"""How rows share batches: the rule that a trial finds, and what the rows give under it."""

from __future__ import annotations

from dataclasses import replace
from itertools import count

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from tokenizers import processors
from transformers import GPT2Config, GPT2ForSequenceClassification, PreTrainedTokenizerFast, XLNetConfig

from tests import tiny, tiny_causal, tiny_encoders
from transforms import padding
from transforms.errors import ModelError
from transforms.model import ModelRef, forward, load, logits
from transforms.tasks import classify, fill_mask

CLASSIFIER = "AutoModelForSequenceClassification"
TEXTS = [text for text in tiny.texts(60, seed=8) if len(text.split()) > 3][:12]


def last_token_classifier(folder, end, **config):
    """A tiny GPT-2 that classifies, whose tokenizer has `end` as its padding token (or none)."""
    tokenizer = tiny_causal.tokenizer()
    tokenizer.pad_token = end
    torch.manual_seed(4)
    sizes = {"vocab_size": len(tokenizer), "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64}
    network = GPT2ForSequenceClassification(
        GPT2Config(**sizes, bos_token_id=1, eos_token_id=2, initializer_range=0.5, num_labels=3, **config)
    )
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def one_by_one(folder, texts):
    """Logits of each text in a batch of its own, by transformers alone."""
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return torch.cat([network(input_ids=torch.tensor([tokenizer(text)["input_ids"]])).logits for text in texts])


@pytest.mark.parametrize(
    ("end", "config"),
    [
        (None, {}),
        ("</s>", {}),
        ("</s>", {"pad_token_id": 2}),
        ("<pad>", {"pad_token_id": 2}),
        (None, {"pad_token_id": -1}),
    ],
    ids=["no padding token", "end pads, not in the config", "end pads", "two padding tokens", "padding token -1"],
)
def test_a_classifier_of_the_last_token_reads_it_in_a_batch_as_in_a_row_alone(tmp_path, end, config):
    folder = last_token_classifier(tmp_path, end, **config)
    texts = [
        "rain</s></s>",
        "the cat sat on a mat",
        "fish</s>soup",
        "</s>",
        "birds <pad><pad>",
        "red and blue and green</s>",
    ]
    model = load(ModelRef(str(folder), device="cpu"), CLASSIFIER)
    assert model.padding == "right"
    got = logits(model, [model.tokenizer(text)["input_ids"] for text in texts])
    torch.testing.assert_close(got, one_by_one(folder, texts), atol=1e-4, rtol=1e-4)


def test_a_network_with_state_gives_a_row_the_same_result_after_any_batch(tmp_path):
    folder = tiny_encoders.save(tmp_path, "big_bird", CLASSIFIER)
    options = classify.Options("text", top_k="all")
    texts = [*TEXTS, "a", "b c"]
    columns = []
    for order in (texts, texts[::-1], sorted(texts, key=len)):
        task = classify.load(options, load(ModelRef(str(folder), device="cpu"), CLASSIFIER), 128)
        found = task(pa.record_batch({"text": order})).values.to_pylist()
        columns.append(dict(zip(order, found, strict=True)))
    assert columns[0] == columns[1] == columns[2]


def test_rows_that_depend_on_other_rows_of_the_batch_are_computed_alone(models):
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), CLASSIFIER)

    def mixed(**inputs):
        output = model.compute(**inputs)
        output.logits = output.logits - output.logits.mean(0) / 2
        return output

    settled = padding.settle(replace(model, compute=mixed), forward, CLASSIFIER, "float32")
    assert settled.padding == "alone"
    assert settled.caps().rows(5) == 1


def test_random_numbers_are_the_same_for_every_batch(models):
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), CLASSIFIER)

    def noisy(**inputs):
        output = model.compute(**inputs)
        output.logits = output.logits + torch.randn(1, 3)
        return output

    settled = padding.settle(replace(model, compute=noisy), forward, CLASSIFIER, "float32")
    before = torch.random.get_rng_state()
    rows = [[2, 40, 41, 3], [2, 60, 3]]
    assert torch.equal(logits(settled, rows[:1]), logits(settled, rows[:1]))
    torch.testing.assert_close(logits(settled, rows)[1:], logits(settled, rows[1:]))
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_network_whose_results_are_not_repeatable_is_refused(models):
    model = load(ModelRef(str(models / "sentiment"), device="cpu"), CLASSIFIER)
    numbers = count()

    def drifting(**inputs):
        output = model.compute(**inputs)
        output.logits = output.logits + next(numbers)
        return output

    with pytest.raises(ModelError, match=r"another result each time .*choose another model"):
        padding.settle(replace(model, compute=drifting), forward, CLASSIFIER, "float32")


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
@pytest.mark.parametrize(("family", "rule"), [("convbert", "equal"), ("bert", "right"), ("mpnet", "right")])
def test_the_padding_rule_in_low_precision_is_that_of_float32(tmp_path, dtype, family, rule):
    folder = tiny_encoders.save(tmp_path, family, CLASSIFIER)
    assert load(ModelRef(str(folder), device="cpu", dtype=dtype), CLASSIFIER).padding == rule


def test_a_network_too_big_to_be_tried_in_float32_is_tried_in_half_precision(tmp_path, monkeypatch):
    monkeypatch.setattr("transforms.model.EXACT_TRIAL", 0)
    for family, rule in (("convbert", "equal"), ("gpt2", "right"), ("xlnet", "left")):
        folder = tiny_encoders.save(tmp_path / family, family, CLASSIFIER)
        assert load(ModelRef(str(folder), device="cpu", dtype="bfloat16"), CLASSIFIER).padding == rule


def test_a_dtype_in_which_a_network_cannot_compute_is_named(tmp_path):
    folder = tiny_encoders.save(tmp_path, "fnet", CLASSIFIER)
    with pytest.raises(ModelError, match=r"cannot compute a text on its own .*bfloat16; use dtype: float32"):
        load(ModelRef(str(folder), device="cpu", dtype="bfloat16"), CLASSIFIER)


def test_rotary_frequencies_are_not_rounded(tmp_path):
    folder = tiny_encoders.save(tmp_path, "llama", CLASSIFIER)
    network = load(ModelRef(str(folder), device="cpu", dtype="bfloat16"), CLASSIFIER).network
    assert network.dtype == torch.bfloat16
    assert {buffer.dtype for name, buffer in network.named_buffers() if "inv_freq" in name} == {torch.float32}


@pytest.mark.parametrize(("pretrained", "rule"), [(16, "equal"), (128, "right")])
def test_rows_past_the_pretraining_length_of_a_scaled_rotary_embedding_share_no_batch_with_others(
    tmp_path, pretrained, rule
):
    scaled = {"rope_type": "dynamic", "factor": 8.0, "rope_theta": 10000.0}
    folder = tiny_encoders.save(
        tmp_path, "llama", CLASSIFIER, rope_parameters=scaled | {"original_max_position_embeddings": pretrained}
    )
    assert load(ModelRef(str(folder), device="cpu"), CLASSIFIER).padding == rule


def test_batches_of_several_lengths_are_refused_where_only_equal_ones_are_right(tmp_path):
    model = load(ModelRef(str(tiny_encoders.save(tmp_path, "fnet", CLASSIFIER)), device="cpu"), CLASSIFIER)
    with pytest.raises(ValueError, match="sequences of one length only, not of 3 to 4"):
        forward(model, [[2, 40, 41, 3], [2, 60, 3]])


def test_a_text_alone_gets_the_type_ids_of_its_tokenizer(tmp_path):
    backend = tiny.byte_level().backend_tokenizer
    backend.post_processor = processors.TemplateProcessing(
        single="$A:0 </s>:0 <s>:2", pair="$A:0 </s>:0 $B:1 </s>:1 <s>:2", special_tokens=[("</s>", 2), ("<s>", 0)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=64,
        padding_side="left",
        cls_token="<s>",
        sep_token="</s>",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **special,
    )
    torch.manual_seed(2)
    config = XLNetConfig(vocab_size=len(tokenizer), d_model=32, n_layer=2, n_head=2, d_inner=64, initializer_range=0.5)
    network = transformers.XLNetForSequenceClassification(config).eval()
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    model = load(ModelRef(str(tmp_path), device="cpu"), CLASSIFIER)
    rows = [tokenizer(text, truncation=True, return_tensors="pt") for text in TEXTS]
    with torch.inference_mode():
        want = torch.cat([network(**row).logits for row in rows])
    got = logits(model, [row["input_ids"][0].tolist() for row in rows])
    assert (model.padding, model.text_types) == ("left", ([], 0, [0, 2]))
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_layers_with_weights_read_elsewhere_are_not_replaced(tmp_path):
    folder = tiny_encoders.save(tmp_path, "mobilebert", "AutoModelForMaskedLM", embedding_size=16)
    model = load(ModelRef(str(folder), device="cpu"), "AutoModelForMaskedLM")
    found = fill_mask.load(fill_mask.Options("text", top_k=2), model)(pa.record_batch({"text": ["a [MASK] b"]}))
    assert not found.failures
    assert np.isfinite([fill["score"] for fill in found.values.to_pylist()[0]]).all()
