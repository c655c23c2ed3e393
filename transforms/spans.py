"""Token labels -> character spans, equal to transformers' TokenClassificationPipeline where that is defined.

Source: transformers/pipelines/token_classification.py (aggregation strategies simple, first, average, max; merging of
overlapping windows). It knows B- and I- only; here E-, S-, L- and U- (BIOES, BILOU) also begin and end spans.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np

Aggregation = Literal["simple", "first", "average", "max"]


@dataclass(frozen=True)
class Spans:
    """Labelled pieces of texts; each attribute is an array `(spans,)`.

    Attributes:
        text: number of the text.
        label: number of a label whose name is `Scheme.names[label]`.
        start: first code point.
        end: one past the last code point.
        score: mean probability, 0 to 1.
    """

    text: np.ndarray
    label: np.ndarray
    start: np.ndarray
    end: np.ndarray
    score: np.ndarray

    def take(self, which: np.ndarray) -> Spans:
        """Select spans by index or by mask."""
        return Spans(self.text[which], self.label[which], self.start[which], self.end[which], self.score[which])


def concatenate(parts: Sequence[Spans]) -> Spans:
    """The spans of all parts, in their order; at least one part."""
    return Spans(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Spans)))


class Scheme:
    """How the labels of a model say where a span begins and ends.

    Args:
        labels: label names in the order of the logits: BIO, BIOES, BILOU, or plain names without a prefix.
    """

    def __init__(self, labels: Sequence[str]):
        prefixes = {label[0] for label in labels if label[1:2] == "-"}
        prefixed = bool(prefixes & {"B", "I"})
        # S- and U- only mean "single" beside other prefixes: a plain label may well be called "S-Bahn".
        known = "BIESLU" if prefixed else ""
        split = [(label[0], label[2:]) if label[1:2] == "-" and label[0] in known else ("I", label) for label in labels]
        self.names = [name for _, name in split]
        kinds = {name: i for i, name in enumerate(dict.fromkeys(self.names))}
        self.kind = np.array([kinds[name] for name in self.names])
        self.opens = np.array([prefix in "BSU" for prefix, _ in split])
        self.closes = np.array([prefix in "ESLU" for prefix, _ in split])
        self.outside = np.array([name == "O" for name in self.names])

    def groups(self, label_ids: np.ndarray, begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Runs `[first, last)` of units that form one span, outside runs left out.

        Args:
            label_ids: int array `(units,)`.
            begins: whether the unit is the first one of its text `(units,)`.
        """
        kind = self.kind[label_ids]
        edges = begins.copy()
        edges[1:] |= (kind[1:] != kind[:-1]) | self.opens[label_ids[1:]] | self.closes[label_ids[:-1]]
        first, last = _runs(edges)
        inside = ~self.outside[label_ids[first]]
        return first[inside], last[inside]


def spans(
    scores: np.ndarray,
    text: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    subword: np.ndarray,
    scheme: Scheme,
    how: Aggregation,
) -> Spans:
    """Spans of several texts whose tokens are concatenated, without special tokens.

    Args:
        scores: probabilities `(tokens, labels)`.
        text: number of each token's text `(tokens,)`.
        starts: first code point of each token `(tokens,)`.
        ends: one past the last code point of each token `(tokens,)`.
        subword: whether a token continues the word of the one before `(tokens,)`; not used by `simple`.
        scheme: the model's labels.
        how: how a word gets its label and score; `simple` labels each token separately.
    """
    label_ids, best = scores.argmax(axis=1), scores.max(axis=1)
    begins = np.ones(len(text), dtype=bool)
    begins[1:] = text[1:] != text[:-1]
    if how != "simple":
        first, last = _runs(begins | ~subword)
        label_ids, best = _word_labels(scores, label_ids, best, first, last, how)
        text, starts, ends, begins = text[first], starts[first], ends[last - 1], begins[first]
    first, last = scheme.groups(label_ids, begins)
    return Spans(text[first], label_ids[first], starts[first], ends[last - 1], _means(best, first, last))


def _runs(begins: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs `[first, last)` of units; each ends where the next one begins."""
    first = np.flatnonzero(begins)
    return first, np.append(first[1:], len(begins))[: len(first)]


def _means(values: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Mean of each run `[first, last)`.

    One run length at a time: `np.add.reduceat` adds in another order, which changes the last bits.
    """
    means = np.empty(len(first), dtype=values.dtype)
    lengths = last - first
    for length in np.unique(lengths):
        same = lengths == length
        means[same] = values[first[same, None] + np.arange(length)].mean(axis=1)
    return means


def _word_labels(
    scores: np.ndarray, label_ids: np.ndarray, best: np.ndarray, first: np.ndarray, last: np.ndarray, how: Aggregation
) -> tuple[np.ndarray, np.ndarray]:
    """Label and score of each word `[first, last)`."""
    if how == "first" or not len(first):
        return label_ids[first], best[first]
    if how == "average":
        mean = np.add.reduceat(scores, first, axis=0) / (last - first)[:, None]
        return mean.argmax(axis=1), mean.max(axis=1)
    word = np.repeat(np.arange(len(first)), last - first)
    surest = np.flatnonzero(best == np.maximum.reduceat(best, first)[word])
    # If several are equal, the first.
    top = surest[np.unique(word[surest], return_index=True)[1]]
    return label_ids[top], best[top]


def merge_windows(found: Spans) -> Spans:
    """Merge the spans of overlapping windows; of two that overlap keep the longer, or the higher score if equally long.

    Args:
        found: spans of several windows, `text` being that of the window.
    """
    kept: list[int] = []
    text, start, end, score = (array.tolist() for array in (found.text, found.start, found.end, found.score))
    for i in np.lexsort((found.start, found.text)).tolist():
        before = kept[-1] if kept else i
        if not kept or text[before] != text[i] or not start[before] <= start[i] < end[before]:
            kept.append(i)
        elif (end[i] - start[i], score[i]) > (end[before] - start[before], score[before]):
            kept[-1] = i
    return found.take(np.array(kept, dtype=np.int64))
