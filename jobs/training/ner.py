"""Training of a recogniser of entities: character spans become a label for each token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

from jobs.training.request import Request
from jobs.training.setup import Setup, load_head, window
from transforms import heads
from transforms.checkpoint import config as configs
from transforms.errors import ModelError

OUTSIDE, IGNORED = "O", -100


def build(request: Request) -> Setup:
    """The network and its examples.

    Raises:
        ModelError: the tokenizer does not give character offsets.
    """
    tokenizer: Any = AutoTokenizer.from_pretrained(request.base)
    if not tokenizer.is_fast:
        raise ModelError("ner needs a fast tokenizer (tokenizer.json) for character offsets; this model has none")
    tags = tag_order(request.labels, heads.labels(configs.read(request.base)))
    network, new = load_head(request, AutoModelForTokenClassification, tags)
    number = {tag: i for i, tag in enumerate(tags)}
    limit = window(tokenizer, network.config, request)
    room = (limit or 10**6) - tokenizer.num_special_tokens_to_add()
    stride = min(request.options.get("stride", 64), room // 2)

    def encode(table: pa.Table) -> list[dict[str, Any]]:
        texts, entities = table["text"].to_pylist(), table["entities"].to_pylist()
        encoded = tokenizer(
            texts,
            truncation=limit is not None,
            max_length=limit,
            stride=stride if limit is not None else 0,
            return_overflowing_tokens=limit is not None,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
        )
        offsets, special = encoded.pop("offset_mapping"), encoded.pop("special_tokens_mask")
        owners = encoded.pop("overflow_to_sample_mapping", range(len(texts)))
        examples = []
        for i, row in enumerate(owners):
            labels = token_tags(texts[row], entities[row], offsets[i], number)
            labels = [IGNORED if skip else label for label, skip in zip(labels, special[i], strict=True)]
            examples.append({name: values[i] for name, values in encoded.items()} | {"labels": labels})
        return examples

    collator = DataCollatorForTokenClassification(tokenizer)
    return Setup((Trainer, TrainingArguments), network, tokenizer, encode, collator, tags, new)


def tag_order(kinds: Sequence[str], known: Sequence[str]) -> list[str]:
    """The tags in the order of the outputs: those of the base if they express all kinds of entities, else BIO.

    Args:
        kinds: names of the kinds of entities.
        known: tags of the base, in their order.
    """
    plain = {kind for kind in kinds if kind in known}
    if OUTSIDE in known and all(kind in plain or {f"B-{kind}", f"I-{kind}"} <= set(known) for kind in kinds):
        return list(known)
    return [OUTSIDE, *(f"{place}-{kind}" for kind in kinds for place in "BI")]


def token_tags(
    text: str, entities: Sequence[dict[str, Any]], offsets: Sequence[tuple[int, int]], number: dict[str, int]
) -> list[int]:
    """The number of the tag of each token.

    Args:
        text: the text.
        entities: label, start and end of each entity, which do not overlap.
        offsets: first code point of each token and one past the last; a token may begin with white space.
        number: tag -> number; with E-, L-, S- or U- tags the last and the only tokens of an entity get them.
    """
    tags = [number[OUTSIDE]] * len(offsets)
    trimmed = [(end - len(text[start:end].lstrip()), end) for start, end in offsets]
    for entity in entities:
        inside = [i for i, (start, end) in enumerate(trimmed) if start < entity["end"] and end > entity["start"]]
        for place, i in enumerate(inside):
            first, last = place == 0, place == len(inside) - 1
            tags[i] = number[_tag(entity["label"], first, last, number)]
    return tags


def _tag(kind: str, first: bool, last: bool, number: dict[str, int]) -> str:
    wanted = ("S-", "U-", "B-") if first and last else ("B-",) if first else ("E-", "L-", "I-") if last else ("I-",)
    return next((f"{place}{kind}" for place in wanted if f"{place}{kind}" in number), kind)
