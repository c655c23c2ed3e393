"""Cut a text that exceeds a model's window into pieces that fit, between sentences if possible, else between words."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence

# A sentence with the space after it: Latin, Arabic, Devanagari, Armenian and CJK full stops (the last without a space),
# or a line end. A better splitter would change little: a window has many sentences, and only the last end matters.
SENTENCE = re.compile(r".+?(?:[.!?…؟۔।։][\"'»”’)\]]*\s+|[。！？｡][」』”’）]*\s*|\n+|\Z)", re.DOTALL)
WORD = re.compile(r"\s*\S+\s*")


def windows(text: str, count: Callable[[Sequence[str]], Sequence[int]], room: int) -> list[str]:
    """Cut a text into pieces of at most `room` tokens that together are the text.

    Args:
        text: any text.
        count: texts -> the tokens of each, without special tokens.
        room: tokens a piece may have, from 1.
    """
    if len(text) < 2 or count([text])[0] <= room:
        return [text]
    pieces = SENTENCE.findall(text)
    if len(pieces) == 1:
        pieces = WORD.findall(text)
    if len(pieces) == 1:
        middle = _middle(text)
        pieces = [text[:middle], text[middle:]]
    groups: list[list[str]] = []
    held = room + 1
    for piece, tokens in zip(pieces, count(pieces), strict=True):
        if held + tokens > room:
            groups.append([])
            held = 0
        groups[-1].append(piece)
        held += tokens
    if len(groups) == 1:
        # Together they have more tokens than the sum of their own counts.
        groups = [pieces[: len(pieces) // 2], pieces[len(pieces) // 2 :]]
    return [window for group in groups for window in windows("".join(group), count, room)]


def _middle(text: str) -> int:
    """The position at which to cut a word: near its middle, not between a letter and its combining marks."""
    middle = len(text) // 2
    while middle < len(text) - 1 and (unicodedata.combining(text[middle]) or text[middle] in "\u200d\ufe0f"):
        middle += 1
    return middle


def space_after(window: str) -> str:
    """The space that a piece ended with; one space where there was none."""
    return window[len(window.rstrip()) :] or " "
