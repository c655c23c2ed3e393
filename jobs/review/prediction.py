"""What a model says of a drawn row, in the form of the truth that people give."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from jobs.evaluation.labels import GIVEN
from jobs.review import columns
from jobs.review.question import Question


@dataclass(frozen=True)
class Prediction:
    """The prediction of one row.

    Attributes:
        value: a label, a list of labels, a list of entities with label, start and end (code points), score and text, or
            a text; None if the model said nothing.
        score: how sure the model is, from 0 to 1; None if it does not say.
        model: NAME@COMMIT of the adapter, or of the model without one; the version for a challenger.
    """

    value: Any
    score: float | None
    model: str


def shown(rows: pa.Table, question: Question) -> Iterator[Prediction]:
    """The prediction that a person is shown for each row.

    Of a row on which champion and challenger differ, a hash of its key decides whose prediction that is: people tend to
    accept what they are shown, which must not favour one of the two.

    Args:
        rows: a draw.
        question: what is asked about it.
    """
    if not len(rows):
        return
    typed = rows[rows["review_into"][0].as_py()]
    # A draw keeps a challenger's single label or text as it is, and lists as JSON.
    is_json = pa.types.is_list(typed.type)
    for value, row in zip(typed.to_pylist(), rows.select(columns.COLUMNS.names).to_pylist(), strict=True):
        if row[columns.DRAWN] == columns.DIFFERENCE and _coin(row[columns.KEY]):
            words = row["review_challenger_prediction"]
            challenger = said(json.loads(words), question) if is_json and words else words
            yield Prediction(challenger, None, row["review_challenger"])
            continue
        score, model = row["review_score"], row["review_adapter"] or row["review_model"]
        known = score if score is not None and math.isfinite(score) and 0 <= score <= 1 else None
        yield Prediction(said(value, question), known, model)


def said(value: Any, question: Question) -> Any:
    """What a task wrote into its column, in the form of the truth; see `Prediction.value`."""
    if question.task == "ner":
        return value or []
    if question.task != "classify":
        return value if isinstance(value, str) or value is None else json.dumps(value, ensure_ascii=False, default=str)
    if value is None:
        return [] if question.several else None
    entries: list[Mapping[str, Any]] = value if isinstance(value, list) else [value]
    if question.several:
        return [entry["label"] for entry in entries if entry["score"] is None or entry["score"] >= GIVEN]
    return entries[0]["label"] if entries else None


def _coin(key: str) -> bool:
    return bool(hashlib.blake2b(f"shown/{key}".encode(), digest_size=1).digest()[0] & 1)
