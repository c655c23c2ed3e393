"""Small draws of each task, as a night leaves them in the review folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jobs.review import columns, question
from jobs.review.question import Question
from jobs.training import identity
from transforms.tasks import classify, ner

JOB, RUN = "reviews", "20261126T020000-aa"
TEXTS = [
    "Zoë from Berlin 😀 met Anna in Rome",
    "two\r\nlines and Bob <b>here</b> & there",
    "  leading space Carl  ",
    "no entity at all",
]
KEYS = [identity.key(text) for text in TEXTS]


def draw(asked: Question, into: str, values: list[Any], type_: pa.DataType, **changed: list[Any]) -> pa.Table:
    """The rows of a draw; `changed` replaces columns of the draw."""
    count = len(values)
    texts = changed.get("review_text", TEXTS)
    words = [value["label"] if isinstance(value, dict) else value for value in values]
    found = {
        "review_key": [identity.key(text) for text in texts],
        "review_text": texts,
        "review_task": [asked.task] * count,
        "review_into": [into] * count,
        "review_prediction": [each if isinstance(each, str) else json.dumps(each) for each in words],
        "review_score": [0.9] * count,
        "review_drawn": [["uniform", "uncertain"][i % 2] for i in range(count)],
        "review_probability": [0.5] * count,
        "review_position": list(range(count)),
        "review_at": ["2026-11-26T02:00:00+00:00"] * count,
        "review_job": [JOB] * count,
        "review_run": [RUN] * count,
        "review_file": ["a.parquet"] * count,
        "review_part": ["a-0.parquet"] * count,
        "review_row": list(range(count)),
        "review_model": ["org/x@abc"] * count,
    } | changed
    table = pa.table(
        {
            "id": [f"r{i}" for i in range(count)],
            "text": texts,
            "stars": pa.array(range(count), pa.int16()),
            into: pa.array(values, type_),
        }
    )
    for each in columns.COLUMNS:
        table = table.append_column(each, pa.array(found.get(each.name, [None] * count), each.type))
    return question.with_question(table, asked)


def single(labels: list[str] | None = None, **changed: list[Any]) -> pa.Table:
    """A draw with one label for each text."""
    values = [{"label": label, "score": 0.9} for label in labels or ("good", "bad", "good", "mixed & more")]
    return draw(Question("classify", ("good", "bad", "mixed & more")), "mood", values, classify.LABEL, **changed)


def several() -> pa.Table:
    """A draw with several labels for each text; the second is given from a score of one half."""
    values = [[{"label": "price", "score": 0.9}, {"label": "size", "score": score}] for score in (0.6, 0.4, 0.9, 0.1)]
    return draw(Question("classify", ("price", "size", "taste"), True), "topics", values, pa.list_(classify.LABEL))


def entities() -> pa.Table:
    """A draw with entities, two of them after an emoji."""
    named = [
        [("Zoë", "PER"), ("Berlin", "LOC"), ("Anna", "PER"), ("Rome", "LOC")],
        [("Bob", "PER")],
        [("Carl", "PER")],
        [],
    ]
    values = [[_entity(text, *each) for each in row] for text, row in zip(TEXTS, named, strict=True)]
    return draw(Question("ner", ("PER", "LOC")), "found", values, pa.list_(ner.ENTITY))


def texts(task: str = "summarize") -> pa.Table:
    """A draw with a written text for each text."""
    return draw(Question(task), "written", ["short one", "two\nlines", "three", "four"], pa.string())


def save(folder: Path, rows: pa.Table, run: str = RUN, job: str = JOB) -> Path:
    """Save a draw in a review folder."""
    file = folder / columns.draw_file(job, run)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(rows, file)
    return folder


def labelled(folder: Path, run: str = RUN, job: str = JOB) -> pa.Table:
    """The labelled rows of a run."""
    return pq.read_table(folder / columns.labels_file(job, run), partitioning=None)


def _entity(text: str, word: str, label: str) -> dict[str, Any]:
    start = text.index(word)
    return {"label": label, "text": word, "start": start, "end": start + len(word), "score": 0.9}
