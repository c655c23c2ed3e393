"""Token labels -> character spans, equal to transformers' TokenClassificationPipeline where that is defined.

Source: transformers/pipelines/token_classification.py (aggregation strategies simple, first, average, max; merging of
overlapping windows). It knows B- and I- alone; here E-, S-, L- and U- (BIOES, BILOU) close and open spans as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Aggregation = Literal["simple", "first", "average", "max"]


@dataclass(frozen=True)
class Span:
    """A labelled piece of a text.

    Attributes:
        label: entity type without its position prefix.
        start: first code point.
        end: one past the last code point.
        score: mean probability, 0 to 1.
    """

    label: str
    start: int
    end: int
    score: float


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

    def groups(self, label_ids: np.ndarray) -> list[tuple[int, int]]:
        """Runs `[first, last)` of units that form one span, outside runs left out.

        Args:
            label_ids: int array `(units,)`.
        """
        if not len(label_ids):
            return []
        kind = self.kind[label_ids]
        begins = np.ones(len(label_ids), dtype=bool)
        begins[1:] = (kind[1:] != kind[:-1]) | self.opens[label_ids[1:]] | self.closes[label_ids[:-1]]
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(label_ids))
        inside = ~self.outside[label_ids[first]]
        return list(zip(first[inside].tolist(), last[inside].tolist(), strict=True))


def spans(
    scores: np.ndarray, starts: np.ndarray, ends: np.ndarray, subword: np.ndarray, scheme: Scheme, how: Aggregation
) -> list[Span]:
    """Spans of one sequence, special tokens already taken out.

    Args:
        scores: probabilities `(tokens, labels)`.
        starts: first code point of each token `(tokens,)`.
        ends: one past the last code point of each token `(tokens,)`.
        subword: whether a token continues the word of the one before `(tokens,)`; not used by `simple`.
        scheme: the model's labels.
        how: which score speaks for a word; `simple` lets every token speak for itself.
    """
    if not len(scores):
        return []
    label_ids, best = scores.argmax(axis=1), scores.max(axis=1)
    if how != "simple":
        begins = ~subword
        begins[0] = True
        first = np.flatnonzero(begins)
        last = np.append(first[1:], len(scores))
        label_ids, best = _word_labels(scores, label_ids, best, first, last, how)
        starts, ends = starts[first], ends[last - 1]
    return [
        Span(scheme.names[label_ids[i]], int(starts[i]), int(ends[j - 1]), float(best[i:j].mean()))
        for i, j in scheme.groups(label_ids)
    ]


def _word_labels(
    scores: np.ndarray, label_ids: np.ndarray, best: np.ndarray, first: np.ndarray, last: np.ndarray, how: Aggregation
) -> tuple[np.ndarray, np.ndarray]:
    """Label and score of each word `[first, last)`."""
    if how == "first":
        return label_ids[first], best[first]
    if how == "average":
        mean = np.add.reduceat(scores, first, axis=0) / (last - first)[:, None]
        return mean.argmax(axis=1), mean.max(axis=1)
    top = np.array([i + int(best[i:j].argmax()) for i, j in zip(first.tolist(), last.tolist(), strict=True)])
    return label_ids[top], best[top]


def merge_windows(found: Sequence[Span]) -> list[Span]:
    """Spans of overlapping windows as one list: of two that overlap the longer stays, of equals the surer."""
    merged: list[Span] = []
    for span in sorted(found, key=lambda span: span.start):
        if not merged or not merged[-1].start <= span.start < merged[-1].end:
            merged.append(span)
            continue
        before = merged[-1]
        if (span.end - span.start, span.score) > (before.end - before.start, before.score):
            merged[-1] = span
    return merged
