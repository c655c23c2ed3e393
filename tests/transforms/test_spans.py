"""Spans follow the labels, in every scheme, and never overlap."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.spans import Scheme, Spans, concatenate, merge_windows, spans

BIO = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
BIOES = ["O", *(f"{p}-{k}" for k in ("PER", "LOC") for p in "BIES")]
BILOU = ["O", *(f"{p}-{k}" for k in ("PER", "LOC") for p in "BILU")]
PLAIN = ["O", "PER", "LOC"]


def listed(found, names=None):
    label = found.label.tolist() if names is None else [names[i] for i in found.label]
    return list(zip(label, found.start.tolist(), found.end.tolist(), found.score.tolist(), strict=True))


def found(labels, sequence, how="simple", subword=None, text=None):
    ids = [labels.index(label) for label in sequence]
    scores = np.full((len(ids), len(labels)), 0.01, np.float32)
    scores[np.arange(len(ids)), ids] = 0.9
    starts = np.arange(len(ids)) * 2
    subword = np.array(subword if subword is not None else [False] * len(ids))
    text = np.array(text if text is not None else [0] * len(ids))
    got = spans(scores, text, starts, starts + 1, subword, Scheme(labels), how)
    return [span[:3] for span in listed(got, Scheme(labels).names)]


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


def test_a_span_ends_with_its_text():
    sequence, text = ["I-PER", "I-PER", "I-PER", "O", "I-PER"], [0, 0, 1, 1, 2]
    assert found(BIO, sequence, text=text) == [("PER", 0, 3), ("PER", 4, 5), ("PER", 8, 9)]
    assert found(BIO, sequence, "first", [True] * 5, text) == [("PER", 0, 3), ("PER", 4, 7), ("PER", 8, 9)]


def sample(seed, n, labels):
    """Scores, places and subwords of `n` tokens."""
    rng = np.random.default_rng(seed)
    raw = rng.random((n, len(labels))).astype(np.float32)
    starts = np.cumsum(rng.integers(1, 4, n))
    return raw / raw.sum(axis=1, keepdims=True), starts, starts + 1, rng.random(n) < 0.3


hows = st.sampled_from(["simple", "first", "average", "max"])
schemes = st.sampled_from([BIO, BIOES, BILOU, PLAIN])


@given(st.integers(0, 10_000), st.integers(0, 25), hows, schemes)
def test_spans_never_overlap_and_lie_on_token_edges(seed, n, how, labels):
    scores, starts, ends, subword = sample(seed, n, labels)
    got = listed(spans(scores, np.zeros(n, int), starts, ends, subword, Scheme(labels), how))
    assert all(a[2] <= b[1] for a, b in pairwise(got))
    assert all(start in starts and end - 1 in starts and 0 < score <= 1 for _, start, end, score in got)
    covered = {i for _, start, end, _ in got for i, at in enumerate(starts) if start <= at < end}
    if how == "simple":
        inside = ~Scheme(labels).outside[scores.argmax(axis=1)] if n else np.zeros(0, bool)
        assert covered == set(np.flatnonzero(inside).tolist())


@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 25)), min_size=1, max_size=5), hows, schemes)
def test_texts_end_to_end_have_the_spans_of_each_alone_to_the_last_bit(texts, how, labels):
    samples = [sample(seed, n, labels) for seed, n in texts]
    numbers = [np.full(n, i) for i, (_, n) in enumerate(texts)]
    whole = [np.concatenate(arrays) for arrays in zip(*samples, strict=True)]
    together = spans(whole[0], np.concatenate(numbers), *whole[1:], Scheme(labels), how)
    alone = [spans(one[0], number, *one[1:], Scheme(labels), how) for one, number in zip(samples, numbers, strict=True)]
    assert together.text.tolist() == concatenate(alone).text.tolist()
    assert listed(together) == listed(concatenate(alone))


@given(st.integers(0, 10_000), st.integers(1, 60), schemes)
def test_a_score_is_the_mean_of_its_tokens_to_the_last_bit(seed, n, labels):
    scores, starts, ends, subword = sample(seed, n, labels)
    got = spans(scores, np.zeros(n, int), starts, ends, subword, Scheme(labels), "simple")
    best = scores.max(axis=1)
    edges = zip(got.start, got.end, strict=True)
    assert got.score.tolist() == [float(best[(starts >= i) & (starts < j)].mean()) for i, j in edges]


def made(*found_spans):
    """Spans from (text, label, start, end, score)."""
    columns = zip(*found_spans, strict=True) if found_spans else [()] * 5
    kinds = (int, int, int, int, float)
    return Spans(*(np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)))


span = st.builds(
    lambda text, start, length, score: (text, 7, start, start + length, score),
    st.integers(0, 2),
    st.integers(0, 50),
    st.integers(1, 9),
    st.floats(0, 1),
)


@given(st.lists(span, max_size=20))
def test_merged_windows_are_in_order_and_start_within_no_other_span(found_spans):
    merged = merge_windows(made(*found_spans))
    rows = list(zip(merged.text.tolist(), *zip(*listed(merged), strict=True), strict=True)) if len(merged.text) else []
    assert set(rows) <= set(found_spans)
    assert all((a[0], a[2]) <= (b[0], b[2]) for a, b in pairwise(rows))
    assert all(a[0] != b[0] or not a[2] <= b[2] < a[3] for a, b in pairwise(rows))
    assert {row[0] for row in rows} == {row[0] for row in found_spans}


def test_of_two_overlapping_spans_the_longer_or_more_certain_one_is_kept():
    assert listed(merge_windows(made((0, 1, 0, 4, 0.9), (0, 2, 2, 9, 0.1)))) == [(2, 2, 9, 0.1)]
    assert listed(merge_windows(made((0, 1, 0, 4, 0.2), (0, 2, 0, 4, 0.8)))) == [(2, 0, 4, 0.8)]


def test_spans_of_two_texts_do_not_overlap_whatever_their_places():
    two = made((0, 1, 0, 4, 0.9), (1, 2, 2, 9, 0.1))
    assert listed(merge_windows(two)) == listed(two)
