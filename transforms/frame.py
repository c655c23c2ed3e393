"""The special tokens that a tokenizer puts around a text."""

from __future__ import annotations

import numpy as np
from transformers import PreTrainedTokenizerBase


def frame(tokenizer: PreTrainedTokenizerBase, prefix: str = "") -> tuple[int, int]:
    """The number of tokens before a text (special tokens and the prefix), and the number after it.

    Args:
        tokenizer: any tokenizer.
        prefix: the text before every text. A space at its end is not counted: many tokenizers make it part of the next
            word.
    """
    encoded = tokenizer(prefix.rstrip() or "a", return_special_tokens_mask=True)
    ordinary = np.flatnonzero(np.array(encoded["special_tokens_mask"]) == 0)
    first, last = int(ordinary[0]), int(ordinary[-1])
    return (last + 1 if prefix.strip() else first), len(encoded["input_ids"]) - 1 - last


def frame_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Ids of the special tokens that a tokenizer adds before a text, and after it."""
    encoded = tokenizer("a b c", return_special_tokens_mask=True)
    ids, special = encoded["input_ids"], [bool(flag) for flag in encoded["special_tokens_mask"]]
    if all(special):
        return list(ids), []
    return ids[: special.index(False)], ids[len(ids) - special[::-1].index(False) :]


def type_ids(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], int, list[int]]:
    """Token type ids of one text: of the special tokens before it, of its tokens, of the special tokens after it."""
    head, tail = frame_ids(tokenizer)
    types = tokenizer("a b c", return_token_type_ids=True)["token_type_ids"]
    end = len(types) - len(tail)
    return types[: len(head)], types[len(head)] if len(head) < end else 0, types[end:]
