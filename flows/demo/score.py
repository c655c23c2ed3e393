"""Scores of a run on the demo's held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import pyarrow as pa
import pyarrow.compute as pc

SPAN = ["row", "label", "start", "end"]
# The least share of entities, of those found and of those that are there, with which a model has learnt anything.
LEAST = 0.1


@dataclass(frozen=True)
class Scores:
    """Scores on the held-out rows; all except `rows` are from 0 to 1.

    Attributes:
        rows: number of held-out rows with a text.
        accuracy: share of rows with the right sentiment.
        macro_f1: mean F1 of the sentiments that occur in the gold.
        entity_precision: share of the found entities that are right.
        entity_recall: share of the gold entities that were found.
        entity_f1: their harmonic mean, over all rows together (micro).
    """

    rows: int
    accuracy: float
    macro_f1: float
    entity_precision: float
    entity_recall: float
    entity_f1: float


def score(enriched: pa.Table, gold: pa.Table) -> Scores:
    """Score enriched rows against the gold.

    Every held-out row with a text counts, for both tasks; entities after the end of a truncated text count as missed.
    A row that is missing or null in `enriched` counts as a wrong sentiment without entities, so that lost rows never
    raise a score. An entity is right if its label, start and end equal those of the gold (as in CoNLL-2003); an entity
    that is found twice counts once.

    Args:
        enriched: `id` (string), `sentiment` (struct<label: string, score: float32>) and `entities` (list<struct<label:
            string, text: string, start: int32, end: int32, score: float32>>), in any order; other rows and columns
            are ignored.
        gold: `id`, `split`, `sentiment` and `entities` as `write_lake` writes them.

    Raises:
        ValueError: a column is missing, an id occurs twice, or no row is held out.
    """
    _check("enriched", enriched, ("id", "sentiment", "entities"))
    _check("gold", gold, ("id", "split", "sentiment", "entities"))
    gold = gold.filter((pc.field("split") == "heldout") & pc.field("sentiment").is_valid())
    if not gold.num_rows:
        raise ValueError("gold has no held-out row with a sentiment; give the gold/reviews.parquet of a whole lake")
    place = pc.index_in(gold["id"], enriched["id"].combine_chunks())
    labels = pc.struct_field(enriched["sentiment"], "label").take(place)
    accuracy, macro_f1 = _sentiment(labels, gold["sentiment"])
    precision, recall, f1 = _entities(enriched["entities"].take(place), gold["entities"])
    return Scores(gold.num_rows, accuracy, macro_f1, precision, recall, f1)


def doubts(scores: Scores, gold: pa.Table) -> list[str]:
    """Why scores say nothing about the models; empty if they do.

    A sentiment that is right no more often than by always answering the most frequent one, give or take two standard
    errors of so few rows, has not been learnt. Nor have entities of which fewer than one in ten is found or right.

    Args:
        scores: as `score` gives them.
        gold: the gold of the same lake.
    """
    gold = gold.filter(pc.field("sentiment").is_valid())
    held = gold.filter(pc.field("split") == "heldout")
    frequent = pc.max(held["sentiment"].value_counts().field("counts")).as_py() / held.num_rows
    found = []
    if scores.accuracy <= frequent + 2 * sqrt(frequent * (1 - frequent) / held.num_rows):
        found.append(f"always answering the most frequent sentiment is right for {frequent:.3f} of the rows")
    if scores.entity_recall < LEAST:
        found.append(f"fewer than one in {1 / LEAST:.0f} entities is found")
    elif scores.entity_precision < LEAST:
        found.append(f"fewer than one in {1 / LEAST:.0f} entities that are found is right")
    return found


def _check(name: str, table: pa.Table, columns: tuple[str, ...]) -> None:
    for column in columns:
        if column not in table.column_names:
            raise ValueError(f"column {column!r} is not in {name}; columns: {', '.join(table.column_names)}")
    if (unique := pc.count_distinct(table["id"]).as_py()) != table.num_rows:
        raise ValueError(f"{name} has {table.num_rows} rows and {unique} different ids; give every row once")


def _sentiment(predicted: pa.ChunkedArray, gold: pa.ChunkedArray) -> tuple[float, float]:
    """Accuracy and macro F1."""
    right = pc.fill_null(pc.equal(predicted, gold), False)
    f1 = []
    for label in pc.unique(gold):
        hits = _count(pc.and_(right, pc.equal(gold, label)))
        f1.append(_f1(hits, _count(pc.equal(predicted, label)), _count(pc.equal(gold, label))))
    return _count(right) / len(gold), sum(f1) / len(f1)


def _entities(predicted: pa.ChunkedArray, gold: pa.ChunkedArray) -> tuple[float, float, float]:
    """Precision, recall and F1 of exact spans."""
    found, true = _spans(predicted), _spans(gold)
    hits = found.join(true, keys=SPAN, join_type="inner").num_rows
    precision = hits / found.num_rows if found.num_rows else 0.0
    recall = hits / true.num_rows if true.num_rows else 0.0
    return precision, recall, _f1(hits, found.num_rows, true.num_rows)


def _spans(entities: pa.ChunkedArray) -> pa.Table:
    """Lists of entities -> a table with one row per distinct entity."""
    lists = entities.combine_chunks()
    flat = pc.list_flatten(lists)
    columns = [pc.list_parent_indices(lists), *(pc.struct_field(flat, name) for name in SPAN[1:])]
    return pa.table(columns, names=SPAN).group_by(SPAN).aggregate([])


def _count(mask: pa.ChunkedArray) -> int:
    return pc.sum(mask).as_py() or 0


def _f1(hits: int, found: int, true: int) -> float:
    return 2 * hits / (found + true) if found + true else 0.0
