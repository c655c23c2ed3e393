"""The identity of a text: what counts as the same text, and on which side of a split it lies."""

from __future__ import annotations

import hashlib
import unicodedata
from typing import Any

import pyarrow as pa
import regex

PUNCTUATION = regex.compile(r"[\p{P}\p{S}\p{C}]+")
SPACE = regex.compile(r"\s+")
DIGITS = regex.compile(r"\d+")


def normalised(text: str) -> str:
    """A text without differences of case, Unicode form, white space and punctuation.

    A text of punctuation alone, such as a smiley, stays as it is.
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    plain = SPACE.sub(" ", PUNCTUATION.sub(" ", folded)).strip()
    return plain or SPACE.sub(" ", folded).strip()


def without_numbers(text: str) -> str:
    """A normalised text with every number replaced by 0."""
    return DIGITS.sub("0", text)


def key(text: str) -> str:
    """The hash of a normalised text, 32 hexadecimal digits."""
    return hashlib.blake2b(normalised(text).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()


def position(key: str, purpose: str) -> float:
    """A number in [0, 1) that depends only on a text and on what it is drawn for.

    Args:
        key: the hash of the text.
        purpose: such as `holdout`; the numbers of two purposes are independent.
    """
    content = hashlib.blake2b(key.encode(), digest_size=8, person=purpose.encode()[:16]).digest()
    return int.from_bytes(content) / 2**64


def read_text(row: dict[str, Any]) -> str | None:
    """What the model reads in a row with canonical columns: its text, its prompt, or its conversation but for the end.

    Args:
        row: canonical column -> value.
    """
    if (messages := row.get("messages")) is not None:
        turns = messages[:-1] if len(messages) > 1 else messages
        return "\n".join(str(turn["content"]) for turn in turns)
    prompt = row.get("prompt", row.get("text"))
    if not prompt and "chosen" in row:
        # A reward model may learn from two texts that have no prompt in common.
        prompt = row["chosen"]
    if isinstance(prompt, list):
        return "\n".join(str(turn["content"]) for turn in prompt)
    return prompt


def is_text(type_: pa.DataType) -> bool:
    """Whether an Arrow type is one of the string types."""
    if pa.types.is_dictionary(type_):
        return is_text(type_.value_type)
    return pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_)
