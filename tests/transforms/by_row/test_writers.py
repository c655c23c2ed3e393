"""Texts that are generated in the same batches with an adapter for each row are those of a run for each adapter."""

from __future__ import annotations

import pyarrow as pa
import pytest

from tests import tiny, tiny_causal
from tests.rows_by_adapter import check, who
from transforms import registry

# Short texts: a tie between two tokens would be decided by rounding.
PROMPTS = tiny_causal.sentences(32, seed=2)
TEXTS = [text[:40] for text in tiny.texts(70)[46:]]


def rows() -> pa.RecordBatch:
    return pa.record_batch({"text": TEXTS, "who": who(len(TEXTS))})


@pytest.mark.parametrize(
    ("family", "more"),
    [
        ("llama", {"target_modules": ["q_proj", "v_proj", "down_proj"]}),
        ("gpt2", {"target_modules": ["c_attn", "c_proj"], "fan_in_fan_out": True}),
        # Not batched continuously, so generate() computes its batches.
        ("bloom", {"target_modules": ["query_key_value"]}),
    ],
)
def test_a_causal_model_continues_each_row_with_its_own_adapter(causal_model, adapters, family, more):
    base = causal_model(family)
    folders = adapters(base, "AutoModelForCausalLM", std=0.15, **more)
    options = registry.get("generate").Options(prompt="{text} ->", max_new_tokens=12)
    batch = pa.record_batch({"text": PROMPTS, "who": who(len(PROMPTS))})
    annotator = check("generate", base, folders, options, batch)
    assert annotator.mixes


def test_a_prompt_that_all_rows_share_is_read_with_each_row_s_adapter(causal_model, adapters):
    base = causal_model("llama")
    folders = adapters(base, "AutoModelForCausalLM", std=0.15, target_modules=["q_proj", "v_proj"])
    options = registry.get("generate").Options(
        prompt="the cat sat on a mat and ate fish soup with bread while {text} ->", max_new_tokens=8
    )
    batch = pa.record_batch({"text": PROMPTS, "who": who(len(PROMPTS))})
    check("generate", base, folders, options, batch)


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize(
    ("family", "more"),
    [("t5", {"target_modules": ["q", "v", "wo"]}), ("bart", {"target_modules": ["q_proj", "v_proj", "fc1"]})],
)
def test_an_encoder_decoder_writes_each_row_with_its_own_adapter(writers, adapters, family, more, beams):
    base = writers(family)
    folders = adapters(base, "AutoModelForSeq2SeqLM", std=0.15, **more)
    options = registry.get("summarize").Options("text", num_beams=beams, max_new_tokens=10)
    check("summarize", base, folders, options, rows())


def test_translations_of_each_row_s_adapter(writers, adapters):
    base = writers("t5")
    folders = adapters(base, "AutoModelForSeq2SeqLM", std=0.15, target_modules=["q", "v", "wo"])
    options = registry.get("translate").Options(
        "text", source_language="en", target_language="de", max_new_tokens=10, long_text="truncate"
    )
    check("translate", base, folders, options, rows())
