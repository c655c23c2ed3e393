"""The token id that padding gets, and the embedding that token ids go to."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase


def choose(network: Any, tokenizer: PreTrainedTokenizerBase, reads_last: bool) -> int:
    """The token id that padding gets.

    A sequence classifier such as GPT-2's finds its last token by the padding token of its configuration, and without
    one reads the last place. Then padding gets an id past the vocabulary, which no text has: an end token in its place
    would hide the end tokens of a text.

    Args:
        network: changed where it needs such an id.
        tokenizer: the model's.
        reads_last: whether it may be such a classifier.
    """
    config, size = network.config.get_text_config(), vocabulary(network)
    if isinstance(known := config.pad_token_id, int) and 0 <= known < size:
        return known
    fallback = tokenizer.pad_token_id if tokenizer.pad_token_id is not None and tokenizer.pad_token_id < size else 0
    if not reads_last or (layer := embedding(network)) is None:
        return fallback
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0].clamp(max=size - 1), *inputs[1:]))
    config.pad_token_id = network.config.pad_token_id = size
    return size


def vocabulary(network: Any) -> int:
    """How many token ids a network can embed."""
    return int(getattr(embedding(network), "num_embeddings", None) or network.config.get_text_config().vocab_size)


def embedding(network: Any) -> nn.Module | None:
    """The layer that embeds token ids; None in a network that has no one layer for it."""
    try:
        found = network.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    return found if isinstance(found, nn.Module) else None
