"""The token id for padding, and the embedding layer of a network."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers import PreTrainedTokenizerBase


def choose(network: Any, tokenizer: PreTrainedTokenizerBase, reads_last: bool) -> int:
    """Choose the token id for padding.

    A sequence classifier such as GPT-2's finds the last token of a row by the `pad_token_id` of its configuration; if
    there is none, it reads the last position of the batch. Such a network is given a padding id past the end of the
    vocabulary, because no text contains that id. An end token used as padding would hide the end tokens of a text.

    Args:
        network: its `pad_token_id` and embedding are changed if it needs such an id.
        tokenizer: the model's tokenizer.
        reads_last: whether the network may be a classifier that reads the last token.
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
    """The layer that embeds token ids; None if the network has no single layer for it."""
    try:
        found = network.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return None
    return found if isinstance(found, nn.Module) else None
