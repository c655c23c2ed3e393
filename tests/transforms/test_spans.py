"""Spans follow the labels, in every scheme, and never overlap."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.spans import Scheme, Span, merge_windows, spans

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
BIOES = ["O", *(f"{p}-{k}" for k in ("PER", "LOC") for p in "BIES")]
BILOU = ["O", *(f"{p}-{k}" for k in ("PER", "LOC") for p in "BILU")]
PLAIN = ["O", "PER", "LOC"]


def found(labels, sequence, how="simple", subword=None):
    ids = [labels.index(label) for label in sequence]
    scores = np.full((len(ids), len(labels)), 0.01, np.float32)
    scores[np.arange(len(ids)), ids] = 0.9
    starts = np.arange(len(ids)) * 2
    subword = np.array(subword if subword is not None else [False] * len(ids))
    return [(s.label, s.start, s.end) for s in spans(scores, starts, starts + 1, subword, Scheme(labels), how)]


@pytest.mark.parametrize(
    ("labels", "sequence", "expected"),
    [
        (BIO, ["B-PER", "I-PER", "O", "B-LOC"], [("PER", 0, 3), ("LOC", 6, 7)]),
        (BIO, ["B-PER", "B-PER"], [("PER", 0, 1), ("PER", 2, 3)]),
        (BIO, ["I-PER", "I-PER", "I-LOC"], [("PER", 0, 3), ("LOC", 4, 5)]),
        (BIOES, ["B-PER", "I-PER", "E-PER", "S-PER", "S-PER"], [("PER", 0, 5), ("PER", 6, 7), ("PER", 8, 9)]),
        (BIOES, ["B-PER", "E-PER", "I-PER"], [("PER", 0, 3), ("PER", 4, 5)]),
        (BILOU, ["U-LOC", "U-LOC", "B-PER", "L-PER", "O"], [("LOC", 0, 1), ("LOC", 2, 3), ("PER", 4, 7)]),
        (PLAIN, ["PER", "PER", "O", "LOC", "PER"], [("PER", 0, 3), ("LOC", 6, 7), ("PER", 8, 9)]),
        (["O", "S-Bahn", "U-Bahn"], ["S-Bahn", "S-Bahn", "U-Bahn"], [("S-Bahn", 0, 3), ("U-Bahn", 4, 5)]),
    ],
)
def test_labels_become_spans_in_every_scheme(labels, sequence, expected):
    assert found(labels, sequence) == expected


def test_a_word_takes_one_label_where_its_pieces_disagree():
    sequence, subword = ["B-PER", "I-LOC", "O"], [False, True, False]
    assert found(BIO, sequence, "simple", subword) == [("PER", 0, 1), ("LOC", 2, 3)]
    assert found(BIO, sequence, "first", subword) == [("PER", 0, 3)]


@given(
    st.integers(0, 10_000),
    st.integers(0, 25),
    st.sampled_from(["simple", "first", "average", "max"]),
    st.sampled_from([BIO, BIOES, BILOU, PLAIN]),
)
def test_spans_never_overlap_and_lie_on_token_edges(seed, n, how, labels):
    rng = np.random.default_rng(seed)
    raw = rng.random((n, len(labels))).astype(np.float32)
    scores = raw / raw.sum(axis=1, keepdims=True) if n else raw
    starts = np.cumsum(rng.integers(1, 4, n)) if n else np.zeros(0, int)
    got = spans(scores, starts, starts + 1, rng.random(n) < 0.3, Scheme(labels), how)
    assert all(a.end <= b.start for a, b in pairwise(got))
    assert all(span.start in starts and span.end - 1 in starts and 0 < span.score <= 1 for span in got)
    covered = {i for span in got for i, start in enumerate(starts) if span.start <= start < span.end}
    if how == "simple":
        assert (
            covered == set(np.flatnonzero(~Scheme(labels).outside[scores.argmax(axis=1)]).tolist())
            if n
            else not covered
        )


span = st.builds(
    lambda start, length, score: Span("X", start, start + length, score),
    st.integers(0, 50),
    st.integers(1, 9),
    st.floats(0, 1),
)


@given(st.lists(span, max_size=20))
def test_merged_windows_are_in_order_and_start_within_no_other_span(found_spans):
    merged = merge_windows(found_spans)
    assert set(merged) <= set(found_spans)
    assert all(a.start <= b.start for a, b in pairwise(merged))
    assert all(not a.start <= b.start < a.end for a, b in pairwise(merged))


def test_of_two_overlapping_spans_the_longer_stays_and_of_equals_the_surer():
    assert merge_windows([Span("A", 0, 4, 0.9), Span("B", 2, 9, 0.1)]) == [Span("B", 2, 9, 0.1)]
    assert merge_windows([Span("A", 0, 4, 0.2), Span("B", 0, 4, 0.8)]) == [Span("B", 0, 4, 0.8)]
