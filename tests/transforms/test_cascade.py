"""Rows below the threshold, failed and checked rows go to the large model, in their order; the others do not."""

from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms import decisions
from transforms.cascade import Cascade, Checks
from transforms.contract import Annotation, Asked, failures_of

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])


@dataclass
class Model:
    """A task whose label and confidence a text names: `small label, large label, confidence, what fails`."""

    place: int
    seen: list[str] = field(default_factory=list)

    def __call__(self, batch):
        texts = batch["text"].to_pylist()
        self.seen += [text for text in texts if text]
        values, confidence, failed = [], np.full(len(texts), np.nan, np.float32), {}
        for row, text in enumerate(texts):
            parts = (text or "").split()
            if not text:
                values.append(None)
            elif ("small", "large")[self.place] in parts[3:]:
                values.append(None)
                failed[row] = ValueError(text)
            else:
                values.append({"label": parts[self.place], "score": 0.5})
                confidence[row] = float(parts[2])
        return Annotation(pa.array(values, LABEL), failures_of(failed), len(texts), 2 * len(texts), confidence)

    def same(self, one, other):
        return decisions.same(one, other, decisions.best_label)


@dataclass
class Watch:
    is_over: bool = False
    told: list[tuple[list[int], list[bool]]] = field(default_factory=list)

    def see(self, rows, agreed):
        self.told.append(([int(row) for row in rows], agreed.tolist()))


def cascade(share=0.0, over=False):
    return Cascade(Model(0), Model(1), 0.5, Checks("seed", share), Watch(over))


def annotated(made, texts):
    return made(pa.record_batch({"text": pa.array(texts, pa.string())}), np.arange(len(texts), dtype=np.uint64))


def labels(annotation):
    return [value and value["label"] for value in annotation.values.to_pylist()]


def test_rows_below_the_threshold_and_no_others_go_on_to_the_large_model():
    made = cascade()
    found = annotated(made, ["a A 0.9", "b B 0.4", None, "c C 0.5", "", "d D 0.1"])
    assert labels(found) == ["a", "B", None, "c", None, "D"]
    assert made.large.seen == ["b B 0.4", "d D 0.1"]
    assert found.asked == Asked(rows=4, answered=2)
    assert (found.tokens, found.padded_tokens) == (6 + 2, 12 + 4)


def test_a_row_that_fails_in_the_small_model_goes_to_the_large_one():
    found = annotated(cascade(), ["a A 0.9", "b B 0.9 small", "c C 0.9 small large"])
    assert labels(found) == ["a", "B", None]
    assert [(failure.row, failure.message) for failure in found.failures] == [(2, "c C 0.9 small large")]
    assert found.asked == Asked(rows=3, answered=1)


def test_a_row_that_fails_in_the_large_model_is_told_with_its_place():
    found = annotated(cascade(), ["a A 0.9", "b B 0.9", "c C 0.1 large", "d D 0.1"])
    assert labels(found) == ["a", "b", None, "D"]
    assert [failure.row for failure in found.failures] == [2]


def test_checked_rows_have_the_value_of_the_large_model_and_the_watch_is_told_of_them():
    made = cascade(share=1.0)
    found = annotated(made, ["a a 0.9", "b B 0.9", "b B 0.9", "c C 0.1", "d d 0.9 large"])
    assert labels(found) == ["a", "B", "B", "C", None]
    assert found.asked == Asked(rows=5, answered=4, checked=4, agreed=1)
    [(rows, agreed)] = made.watch.told
    assert (rows, agreed) == ([0, 1, 2, 4], [True, False, False, False])


def test_rows_without_a_place_in_the_source_are_not_checked():
    made = cascade(share=1.0)
    found = made(pa.record_batch({"text": ["a A 0.9", "b B 0.1"]}))
    assert (labels(found), made.watch.told) == (["a", "B"], [])
    assert found.asked == Asked(rows=2, answered=1)


def test_once_the_watch_is_over_the_large_model_computes_every_row():
    made = cascade(over=True)
    found = annotated(made, ["a A 0.9", None, "b B 0.1", "c C 0.1 large"])
    assert labels(found) == ["A", None, "B", None]
    assert made.small.seen == []
    assert found.asked == Asked(rows=3)


def test_a_batch_without_rows_gives_a_column_without_rows():
    assert annotated(cascade(), []).values == pa.array([], LABEL)


@given(st.lists(st.tuples(st.floats(0, 1, width=16), st.booleans(), st.booleans()), max_size=30), st.integers(0, 9))
def test_every_row_has_the_answer_that_its_confidence_asks_for(rows, share):
    texts = [f"s{i} L{i} {sure:.3f}{' small' * small}{' large' * large}" for i, (sure, small, large) in enumerate(rows)]
    made = cascade(share / 10)
    found = annotated(made, texts)
    asked = set(made.large.seen)
    for i, (text, (_, small, large)) in enumerate(zip(texts, rows, strict=True)):
        needed = small or float(text.split()[2]) < 0.5
        assert needed <= (text in asked)
        want = None if text in asked and large else f"L{i}" if text in asked else f"s{i}"
        assert labels(found)[i] == want
    unsure = sum(small or float(text.split()[2]) < 0.5 for text, (_, small, _) in zip(texts, rows, strict=True))
    assert found.asked.answered == len(rows) - unsure


def test_the_same_rows_are_checked_whatever_their_batch_and_others_with_another_seed():
    places = np.arange(20_000, dtype=np.uint64)
    checks = Checks("0123456789abcdef", 0.02)
    chosen = checks.chosen(places)
    assert chosen.mean() == pytest.approx(0.02, abs=0.004)
    parts = [checks.chosen(places[start : start + 1_000]) for start in range(0, 20_000, 1_000)]
    assert (np.concatenate(parts) == chosen).all()
    other = Checks("fedcba9876543210", 0.02).chosen(places)
    assert (other & chosen).sum() < 40


def test_labels_that_are_scored_independently_are_compared_by_what_is_given():
    items = pa.list_(LABEL)
    one = pa.array([[{"label": "a", "score": 0.9}, {"label": "b", "score": 0.4}], None, []], items)
    other = pa.array([[{"label": "a", "score": 0.6}, {"label": "c", "score": 0.49}], None, None], items)
    assert decisions.same(one, other, decisions.given_labels).tolist() == [True, True, False]
    assert decisions.sureness(np.array([[0.9, 0.4], [0.2, 0.95]]), True) == pytest.approx([0.6, 0.8])
    assert decisions.sureness(np.array([[0.9, 0.4], [0.2, 0.95]]), False) == pytest.approx([0.9, 0.95])


def test_entities_are_compared_by_label_and_place():
    kind = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int32()), ("end", pa.int32())]))
    one = pa.array([[{"label": "PER", "start": 0, "end": 3}], [{"label": "PER", "start": 0, "end": 3}], []], kind)
    other = pa.array([[{"label": "PER", "start": 0, "end": 3}], [{"label": "PER", "start": 0, "end": 4}], []], kind)
    assert decisions.same(one, other, decisions.entities).tolist() == [True, False, True]
