"""Perplexity of tiny trained models against transformers' own loss, and its use of the task's prompts."""

import math

import numpy as np
import pyarrow as pa
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from jobs.evaluation import metrics, perplexity
from jobs.evaluation.predict import prepare
from transforms.errors import SpecError

FLOAT = {"dtype": "float32", "device": "cpu"}
PROMPTS = ["the cat sat on a mat ->", "rain ->", "red blue green birds sang of rain and ate fish soup ->"]
COMPLETIONS = [" and ate", " the", " with bread while red"]


def causal_loss(folder, prompt, completion):
    """Sum of the losses of the completion's tokens, end token included, and their number."""
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    before = tokenizer(prompt)["input_ids"]
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    labels = torch.tensor([[-100] * len(before) + after])
    with torch.inference_mode():
        loss = model(input_ids=torch.tensor([before + after]), labels=labels).loss
    return float(loss) * len(after), len(after)


def test_perplexity_of_a_causal_model_is_that_of_its_own_loss(causal_model):
    folder = causal_model("llama")
    losses = [causal_loss(folder, *pair) for pair in zip(PROMPTS, COMPLETIONS, strict=True)]
    table = pa.table({"prompt": PROMPTS, "completion": COMPLETIONS})
    measured = perplexity.measure(prepare("generate", folder, None, table, FLOAT | {"max_new_tokens": 20}))
    tokens = sum(count for _, count in losses)
    assert measured.others["tokens"] == tokens
    assert measured.value == pytest.approx(math.exp(sum(loss for loss, _ in losses) / tokens), rel=1e-4)
    assert measured.correctness.tolist() == pytest.approx([math.exp(-loss / n) for loss, n in losses], rel=1e-4)


def test_perplexity_does_not_depend_on_the_rows_in_a_batch(causal_model):
    table = pa.table({"prompt": PROMPTS, "completion": COMPLETIONS})
    together = perplexity.measure(
        prepare("generate", causal_model("gpt2"), None, table, FLOAT | {"max_new_tokens": 20})
    )
    alone = [
        perplexity.measure(
            prepare("generate", causal_model("gpt2"), None, table.slice(i, 1), FLOAT | {"max_new_tokens": 20})
        ).correctness[0]
        for i in range(3)
    ]
    assert together.correctness.tolist() == pytest.approx(alone, rel=1e-4)


def test_a_conversation_is_scored_after_the_model_s_chat_template(causal_model):
    messages = [[{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "sat on"}]]
    folder = causal_model("chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(messages[0][:1], tokenize=False, add_generation_prompt=True)
    loss, count = causal_loss_after(folder, tokenizer(prompt, add_special_tokens=False)["input_ids"], "sat on")
    measured = perplexity.measure(
        prepare("generate", folder, None, pa.table({"messages": messages}), FLOAT | {"max_new_tokens": 20})
    )
    assert measured.value == pytest.approx(math.exp(loss / count), rel=1e-4)


def causal_loss_after(folder, before, completion):
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForCausalLM.from_pretrained(folder)
    after = [*tokenizer(completion, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    with torch.inference_mode():
        output = model(input_ids=torch.tensor([before + after]), labels=torch.tensor([[-100] * len(before) + after]))
    return float(output.loss) * len(after), len(after)


@pytest.mark.parametrize("family", ["t5", "marian", "pegasus"])
def test_perplexity_of_an_encoder_decoder_is_that_of_its_own_loss(writers, family):
    folder = writers(family)
    texts, targets = ["a cat sat", "birds"], ["a cat", "birds sang of"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModelForSeq2SeqLM.from_pretrained(folder)
    options = {"t5": {"prefix": "sum: "}}.get(family, {})
    total, count = 0.0, 0
    for text, target in zip(texts, targets, strict=True):
        labels = tokenizer(text_target=target, return_tensors="pt")["input_ids"]
        source = tokenizer(options.get("prefix", "") + text, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            total += float(model(input_ids=source, labels=labels).loss) * labels.shape[1]
        count += labels.shape[1]
    table = pa.table({"text": texts, "target": targets})
    measured = perplexity.measure(prepare("summarize", folder, None, table, FLOAT | options))
    assert measured.others["tokens"] == count
    assert measured.value == pytest.approx(math.exp(total / count), rel=1e-4)


@pytest.mark.parametrize("family", ["nllb", "mbart"])
def test_the_language_that_is_forced_does_not_count(writers, family):
    source, target = {"nllb": ("eng_Latn", "deu_Latn"), "mbart": ("en_XX", "de_DE")}[family]
    table = pa.table({"text": ["a cat sat"], "target": ["a cat sat"]})
    options = FLOAT | {"source_language": source, "target_language": target}
    measured = perplexity.measure(prepare("translate", writers(family), None, table, options))
    tokenizer = AutoTokenizer.from_pretrained(writers(family))
    body = tokenizer("a cat sat", add_special_tokens=False)["input_ids"]
    assert measured.others["tokens"] == len(body) + 1
    # The model was trained to copy, so the text itself is far more probable than another one.
    other = pa.table({"text": ["a cat sat"], "target": ["zebra muddle"]})
    assert measured.value < perplexity.measure(prepare("translate", writers(family), None, other, options)).value


def test_a_row_without_a_prompt_does_not_count(causal_model):
    table = pa.table({"prompt": [PROMPTS[0], None], "completion": [COMPLETIONS[0], "x"]})
    measured = perplexity.measure(
        prepare("generate", causal_model("llama"), None, table, FLOAT | {"max_new_tokens": 20})
    )
    alone = perplexity.measure(
        prepare("generate", causal_model("llama"), None, table.slice(0, 1), FLOAT | {"max_new_tokens": 20})
    )
    assert measured.value == pytest.approx(alone.value)
    assert measured.missing == 1
    assert np.array_equal(measured.correctness, [alone.correctness[0], 0.0])


def test_perplexity_of_labels_is_refused(models):
    table = pa.table({"text": ["a"], "label": ["positive"]})
    with pytest.raises(SpecError, match=r"gate.metric is 'perplexity', which cannot be computed for classify"):
        perplexity.measure(prepare("classify", models / "sentiment", None, table))
    with pytest.raises(SpecError, match=r"use perplexity\.measure"):
        metrics.measure("generate", pa.table({"prompt": ["a"], "completion": ["b"]}), pa.array(["b"]), "perplexity")
