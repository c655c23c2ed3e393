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
