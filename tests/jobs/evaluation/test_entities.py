"""Entity F1 against values computed by hand, and against seqeval on tokens."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score
from seqeval.scheme import IOB2

from jobs.evaluation import entities, metrics
from transforms.errors import SpecError
from transforms.tasks.ner import ENTITY

ENTITIES = pa.list_(pa.struct([("label", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))
TEXT = "Ann met Bob in Rome"


def table(*rows, text=TEXT):
    true = [[{"label": label, "start": start, "end": end} for label, start, end in row] for row in rows]
    return pa.table({"text": [text] * len(rows), "entities": pa.array(true, ENTITIES)})


def found(*rows):
    values = [
        None if row is None else [{"label": n, "text": "", "start": s, "end": e, "score": 1.0} for n, s, e in row]
        for row in rows
    ]
    return pa.array(values, pa.list_(ENTITY))


def test_entity_f1_equals_the_value_computed_by_hand():
    true = table([("PER", 0, 3), ("PER", 8, 11), ("LOC", 15, 19)], [])
    # One right, one with another label, one with another end, one missed; one too many in the second row.
    guessed = found([("PER", 0, 3), ("LOC", 8, 11), ("LOC", 14, 18)], [("PER", 0, 3)])
    measured = metrics.measure("ner", true, guessed)
    assert measured.others["entity_precision"] == pytest.approx(1 / 4)
    assert measured.others["entity_recall"] == pytest.approx(1 / 3)
    assert measured.value == pytest.approx(2 / 7)
    assert measured.correctness.tolist() == pytest.approx([1 / 3, 0])
    assert measured.others["classes"]["PER"]["entities"] == 2


def test_a_row_without_entities_in_which_none_are_found_is_right():
    measured = metrics.measure("ner", table([("PER", 0, 3)], []), found([("PER", 0, 3)], []))
    assert measured.correctness.tolist() == [1, 1]


def test_a_failed_row_is_wrong_even_if_it_has_no_entities():
    measured = metrics.measure("ner", table([("PER", 0, 3)], []), found([("PER", 0, 3)], None))
    assert measured.correctness.tolist() == [1, 0]
    assert measured.missing == 1


def test_white_space_at_the_ends_of_an_entity_does_not_count():
    assert metrics.measure("ner", table([("PER", 0, 4)]), found([("PER", 0, 3)])).value == 1


def test_neighbouring_entities_of_one_label_are_two():
    text = table([("PER", 0, 3), ("PER", 4, 7)], text="Ann Bob")
    assert metrics.measure("ner", text, found([("PER", 0, 7)])).value == 0
    assert metrics.measure("ner", text, found([("PER", 0, 3), ("PER", 4, 7)])).value == 1


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([("PER", 0, 99)], "row 0 of the holdout has the entity 'PER' from 0 to 99, and its text has 19 characters"),
        ([("PER", 3, 3)], "0 <= start < end"),
        ([("PER", 0, 7), ("LOC", 4, 7)], "the entity 'LOC' from 4 to 7 is blank or overlaps another"),
        ([], "no row of the holdout has an entity, so entity_f1 cannot be computed"),
    ],
)
def test_entities_that_cannot_be_compared_are_refused_in_one_sentence(row, said):
    with pytest.raises(SpecError) as raised:
        metrics.measure("ner", table(row), found([]))
    assert said in str(raised.value)


def test_labels_of_entities_are_checked_against_the_label_map():
    with pytest.raises(SpecError, match=r"data.holdout has the label 'LOC' in 1 rows"):
        metrics.check_labels("ner", table([("LOC", 15, 19), ("PER", 0, 3)]), ["PER"])


TAGS = st.lists(st.sampled_from(["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]), min_size=1, max_size=8)


def spans(tags):
    """Entities of strict IOB2 tags, one character and one space a token."""
    made = []
    for i, tag in enumerate(tags):
        if tag.startswith("B-"):
            made.append([tag[2:], 2 * i, 2 * i + 1])
        elif tag.startswith("I-") and made and made[-1][0] == tag[2:] and made[-1][2] == 2 * i - 1:
            made[-1][2] = 2 * i + 1
    return [tuple(span) for span in made]


@given(st.lists(st.tuples(TAGS, TAGS), min_size=1, max_size=5))
def test_entity_f1_equals_seqeval_s_own_on_tokens(pairs):
    pairs = [(one, (other + ["O"] * len(one))[: len(one)]) for one, other in pairs]
    if not any(spans(one) for one, _ in pairs):
        return
    text = " ".join("x" * 8)
    true, guessed = table(*(spans(one) for one, _ in pairs), text=text), found(*(spans(other) for _, other in pairs))
    tokens = [list(side) for side in zip(*pairs, strict=True)]
    expected = f1_score(*tokens, mode="strict", scheme=IOB2, zero_division=0)
    assert metrics.measure("ner", true, guessed).value == pytest.approx(float(expected))
    assert [entities.row_f1(spans(a), spans(b)) for a, b in pairs] == pytest.approx(
        metrics.measure("ner", true, guessed).correctness.tolist()
    )
