"""Near duplicates of texts: sets of shingles with a high Jaccard similarity.

Source: prefix filtering as in Chaudhuri et al. 2006 (A primitive operator for similarity joins) and Bayardo et al. 2007
(Scaling up all pairs similarity search). Unlike MinHash it finds every pair at or above the threshold: if two sets have
a Jaccard similarity of t, they share an element among the first |x| - ceil(t |x|) + 1 of each, in any common order. The
order is from rare to frequent, so that few pairs are compared.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

from jobs.training.identity import normalised, without_numbers

THRESHOLD = 0.8

# Words in a shingle; characters, where a text has too few words (Chinese, Japanese, Thai, or a short text).
WORDS, CHARACTERS = 3, 5
FEWEST_WORDS = 8

# A fraction of t * n is computed with rounding; without this 0.8 * 5 could be 4.000000001.
ROUNDING = 1e-9


def shingles(text: str) -> frozenset[int]:
    """Hashes of the pieces of a text, without differences of case, space, punctuation and numbers."""
    plain = without_numbers(normalised(text))
    words = plain.split()
    if len(words) >= FEWEST_WORDS:
        return frozenset(hash(tuple(words[i : i + WORDS])) for i in range(len(words) - WORDS + 1))
    return frozenset(hash(plain[i : i + CHARACTERS]) for i in range(max(1, len(plain) - CHARACTERS + 1)))


def near(texts: Sequence[str], others: Sequence[str], threshold: float = THRESHOLD) -> list[bool]:
    """Whether each text is equal or nearly equal to one of the others.

    Args:
        texts: the texts that are looked up.
        others: the texts that they are compared with.
        threshold: smallest Jaccard similarity of the shingles that counts as nearly equal.
    """
    looked_up, known = [shingles(text) for text in texts], [shingles(text) for text in others]
    frequency = Counter(piece for pieces in (*looked_up, *known) for piece in pieces)

    def prefix(pieces: frozenset[int]) -> list[int]:
        ordered = sorted(pieces, key=lambda piece: (frequency[piece], piece))
        return ordered[: len(pieces) - math.ceil(threshold * len(pieces) - ROUNDING) + 1]

    holders: dict[int, list[int]] = defaultdict(list)
    for i, pieces in enumerate(known):
        for piece in prefix(pieces):
            holders[piece].append(i)
    found = []
    for pieces in looked_up:
        candidates = {i for piece in prefix(pieces) for i in holders.get(piece, ())}
        found.append(any(_similarity(pieces, known[i]) >= threshold - ROUNDING for i in candidates))
    return found


def _similarity(one: frozenset[int], other: frozenset[int]) -> float:
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared)
