"""The special tokens that a tokenizer puts around a text."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerBase


def frame(tokenizer: PreTrainedTokenizerBase, prefix: str = "") -> tuple[int, int]:
    """How many tokens stand before a text (special ones, and those of a prefix) and how many after it.

    Args:
        tokenizer: any tokenizer.
        prefix: what every text starts with. The space at its end is no token here: many tokenizers make it a part of
            the next word.
    """
    encoded = tokenizer(prefix.rstrip() or "a", return_special_tokens_mask=True)
    ordinary = np.flatnonzero(np.array(encoded["special_tokens_mask"]) == 0)
    first, last = int(ordinary[0]), int(ordinary[-1])
    return (last + 1 if prefix.strip() else first), len(encoded["input_ids"]) - 1 - last


def frame_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids of the special tokens that a tokenizer puts before a text, and of those after it."""
    encoded = tokenizer("a b c", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], [bool(flag) for flag in encoded["special_tokens_mask"]]
    if all(special):
        return list(ids), []
    return ids[: special.index(False)], ids[len(ids) - special[::-1].index(False) :]


def type_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int, list[int]]:
    """Type ids that a tokenizer gives one text: those of the special tokens before it, its own, those after it."""
    head, tail = frame_ids(tokenizer)
    types = tokenizer("a b c", return_token_type_ids=True)["token_type_ids"]
    end = len(types) - len(tail)
    return types[: len(head)], types[len(head)] if len(head) < end else 0, types[end:]
