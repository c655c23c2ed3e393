"""Scores on tables small enough to count by hand."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.demo.lake import GOLD
from flows.demo.score import score
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
