"""Scores on tables small enough to count by hand."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows import demo
from flows.demo.lake import GOLD
from flows.demo.score import Scores, doubts, score
from transforms.tasks import classify, ner

ENRICHED = pa.schema([("id", pa.string()), ("sentiment", classify.LABEL), ("entities", pa.list_(ner.ENTITY))])


def gold(*rows):
    keys = ("id", "split", "sentiment", "entities")
    spans = [
        None if row[3] is None else [dict(zip(("label", "start", "end"), s, strict=True)) for s in row[3]]
        for row in rows
    ]
    return pa.Table.from_pylist(
        [dict(zip(keys, (*row[:3], s), strict=True)) for row, s in zip(rows, spans, strict=True)], GOLD
    )


def enriched(*rows):
    return pa.Table.from_pylist(
        [
            {
                "id": id_,
                "sentiment": label and {"label": label, "score": 0.9},
                "entities": None
                if spans is None
                else [{"label": a, "text": "x", "start": b, "end": c, "score": 0.9} for a, b, c in spans],
            }
            for id_, label, spans in rows
        ],
        ENRICHED,
    )


EMMA, LEEDS = ("PERSON", 0, 4), ("CITY", 10, 15)
GOLD_ROWS = gold(
    ("a", "heldout", "positive", [EMMA, LEEDS]),
    ("b", "heldout", "negative", [LEEDS]),
    ("c", "heldout", "negative", []),
    ("d", "heldout", "neutral", [EMMA]),
    ("e", "heldout", None, None),
    ("f", "train", "positive", [EMMA]),
)


def test_the_gold_itself_scores_one():
    rows = [
        ("a", "positive", [EMMA, LEEDS]),
        ("b", "negative", [LEEDS]),
        ("c", "negative", []),
        ("d", "neutral", [EMMA]),
    ]
    assert list(vars(score(enriched(*rows), GOLD_ROWS)).values()) == [4, 1, 1, 1, 1, 1]


def test_scores_equal_those_counted_by_hand():
    got = score(
        enriched(
            ("d", "negative", [("PERSON", 0, 5)]),  # another end
            ("c", "negative", []),
            ("b", "negative", [LEEDS, LEEDS]),  # twice the same
            ("a", "positive", [EMMA, ("PERSON", 10, 15)]),  # another label
        ),
        GOLD_ROWS,
    )
    assert (got.rows, got.accuracy) == (4, 3 / 4)
    assert got.macro_f1 == pytest.approx((1 + 4 / 5 + 0) / 3)
    assert (got.entity_precision, got.entity_recall, got.entity_f1) == (2 / 4, 2 / 4, 2 / 4)


def test_an_entity_of_another_row_counts_as_wrong():
    got = score(enriched(("a", "positive", []), ("b", "negative", [EMMA]), ("c", "negative", [EMMA])), GOLD_ROWS)
    assert (got.entity_precision, got.entity_recall, got.entity_f1) == (0, 0, 0)


def test_rows_that_are_missing_or_null_count_as_wrong():
    got = score(enriched(("a", "positive", [EMMA, LEEDS]), ("b", None, None)), GOLD_ROWS)
    assert (got.rows, got.accuracy, got.entity_precision, got.entity_recall) == (4, 1 / 4, 1, 2 / 4)


def test_training_rows_and_rows_without_a_text_do_not_count():
    held = enriched(("a", "positive", [EMMA, LEEDS]))
    more = enriched(
        ("a", "positive", [EMMA, LEEDS]), ("e", "neutral", [EMMA]), ("f", "negative", [LEEDS]), ("g", None, None)
    )
    assert score(held, GOLD_ROWS) == score(more, GOLD_ROWS)


def test_a_run_that_found_nothing_scores_zero():
    assert list(vars(score(enriched(("z", None, None)), GOLD_ROWS)).values()) == [4, 0, 0, 0, 0, 0]


@given(st.permutations(range(4)), st.integers(1, 4))
def test_neither_the_order_nor_the_chunks_of_rows_matter(order, chunk):
    rows = enriched(
        ("a", "positive", [EMMA]), ("b", "neutral", [LEEDS]), ("c", "negative", None), ("d", "neutral", [EMMA])
    )
    shuffled = pa.Table.from_batches(rows.take(list(order)).to_batches(max_chunksize=chunk))
    assert score(shuffled, GOLD_ROWS) == score(rows, GOLD_ROWS)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (
            enriched(("a", None, None)).drop_columns("entities"),
            "column 'entities' is not in enriched; columns: id, sentiment",
        ),
        (enriched(("a", None, None), ("a", None, None)), "enriched has 2 rows and 1 different ids"),
    ],
)
def test_tables_that_cannot_be_scored_are_refused(table, message):
    with pytest.raises(ValueError, match=message):
        score(table, GOLD_ROWS)


def test_a_gold_without_held_out_rows_is_refused():
    with pytest.raises(ValueError, match="no held-out row"):
        score(enriched(("a", None, None)), gold(("a", "train", "positive", [])))


@pytest.mark.parametrize(
    ("figures", "said"),
    [
        ((0.60, 0.9, 0.8), []),
        ((0.49, 0.9, 0.8), ["always answering the most frequent sentiment is right for 0.400 of the rows"]),
        ((0.60, 0.9, 0.05), ["fewer than one in 10 entities is found"]),
        ((0.60, 0.05, 0.9), ["fewer than one in 10 entities that are found is right"]),
        ((0.28, 0.0, 0.0), ["always answering the most frequent", "fewer than one in 10 entities is found"]),
    ],
)
def test_scores_of_models_that_have_learnt_nothing_are_doubted(figures, said):
    """By always answering the most frequent sentiment 40 of 100 rows are right, or up to 49 by chance."""
    accuracy, precision, recall = figures
    labels = ["positive"] * 40 + ["negative"] * 35 + ["neutral"] * 25
    rows = gold(*((str(i), "heldout", label, []) for i, label in enumerate(labels)), ("x", "train", "neutral", []))
    found = doubts(Scores(100, accuracy, accuracy, precision, recall, 0.0), rows)
    assert len(found) == len(said)
    assert all(line.startswith(words) for line, words in zip(found, said, strict=True))


def test_the_demo_says_what_would_help_the_models_to_learn_more():
    assert demo.remark([], 84, 120) == ""
    assert demo.remark(["a", "b"], 84, 120) == (
        "note       84 labelled reviews are too few to learn from: a, and b; "
        "--rows 6000, the default, gives them more\n"
    )
    assert "--rows" not in demo.remark(["a"], 84_000, 120_000)
