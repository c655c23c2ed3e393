"""Training of an encoder-decoder: texts and the texts to write, encoded as the nightly task encodes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pyarrow as pa
from transformers import (
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    DataCollatorForSeq2Seq,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
)

from jobs.training.request import Request
from jobs.training.setup import Setup, load, window
from transforms.errors import ModelError
from transforms.generation import languages


def build(request: Request) -> Setup:
    """The network and its examples.

    Raises:
        ModelError: the base is no encoder-decoder, or does not have a language.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    try:
        network: Any = load(request, AutoModelForSeq2SeqLM)[0]
    except ValueError as error:
        raise ModelError(
            f"{request.task} trains encoder-decoders such as T5, BART or Marian, and {request.base_name} is none; "
            "choose another base, or task: generate"
        ) from error
    prefix = _prefix(request, network, tokenizer)
    limit = window(tokenizer, network.config, request)

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        texts = [prefix + text for text in table["text"].to_pylist()]
        encoded = tokenizer(texts, truncation=limit is not None, max_length=limit)
        written = tokenizer(text_target=table["target"].to_pylist(), truncation=limit is not None, max_length=limit)
        return [
            {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}
            for ids, labels in zip(encoded["input_ids"], written["input_ids"], strict=True)
        ]

    kind = (Seq2SeqTrainer, Seq2SeqTrainingArguments)
    return Setup(kind, network, tokenizer, encode, DataCollatorForSeq2Seq(tokenizer, network))


def _prefix(request: Request, network: Any, tokenizer: Any) -> str:
    """The text before each source text; the languages of the tokenizer are set."""
    options = request.options
    if request.task == "summarize":
        own = (getattr(network.config, "task_specific_params", None) or {}).get("summarization", {})
        prefix = options.get("prefix")
        return (own.get("prefix", getattr(network.config, "prefix", None)) if prefix is None else prefix) or ""
    # What `read` looks at of a loaded model; the network in training is not loaded as one.
    parts: Any = SimpleNamespace(tokenizer=tokenizer, network=network, config=network.config)
    found = languages.read(parts)
    source, target = options.get("source_language"), options.get("target_language")
    if options.get("prefix") is not None:
        return str(options["prefix"])
    if found.kind == "prefixed" and None in (source, target):
        raise ModelError("options: a T5 model needs source_language and target_language, or the whole `prefix`")
    if found.needs_source:
        found.check(source, "options.source_language")
    if found.needs_target:
        found.check(target, "options.target_language")
    if found.kind == "tokens":
        tokenizer.src_lang = source
        tokenizer.tgt_lang = target or found.start
    return found.prefix(source, target)
