"""What is counted and kept while part files are written, and that shards add up to a run."""

import json

import pyarrow as pa
import pytest

from jobs.report import findings
from jobs.report.findings import Findings
from jobs.report.observer import Observer
from jobs.report.shown import shown
from jobs.spec import TaskSpec

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])
ENTITY = pa.struct(
    [("label", pa.string()), ("text", pa.string()), ("start", pa.int32()), ("end", pa.int32()), ("score", pa.float32())]
)
TASKS = [
    TaskSpec(task="classify", column="text", model="m", into="mood"),
    TaskSpec(task="ner", column="text", model="m", into="names"),
]


def entity(label, text, score):
    return {"label": label, "text": text, "start": 0, "end": len(text), "score": score}


def batch(*rows):
    schema = pa.schema([("text", pa.string()), ("mood", LABEL), ("names", pa.list_(ENTITY))])
    return pa.RecordBatch.from_pylist(
        [{"text": text, "mood": mood and dict(zip(("label", "score"), mood, strict=True)), "names": names}
         for text, mood, names in rows],
        schema=schema,
    )  # fmt: skip


def observed(key, *batches, rejected=None):
    observer = Observer(TASKS, key)
    for each in batches:
        observer.observe(each, rejected)
    return observer.findings()


FIRST = batch(
    ("fine wine", ("good", 0.9), [entity("LOC", "Porto", 0.5), entity("PER", "Ana", 0.99)]),
    (None, None, None),
    ("dull", ("bad", 0.6), []),
)
SECOND = batch(("so so", ("good", 0.55), [entity("LOC", "Faro", 0.8)]))


def test_labels_scores_and_lengths_are_counted_over_batches():
    found = observed("a.parquet", FIRST, SECOND)
    assert (found.rows, found.parts) == (4, 1)
    assert found.labels == {"mood": {"good": 2, "bad": 1}, "names": {"LOC": 2, "PER": 1}}
    assert (sum(found.scores["mood"]), sum(found.scores["names"]), sum(found.lengths)) == (3, 3, 3)


def test_the_least_certain_rows_come_first_with_their_text():
    found = observed("a.parquet", FIRST, SECOND)
    assert [(row["text"], row["score"]) for row in found.least_certain["mood"]] == [
        ("so so", 0.55), ("dull", 0.6), ("fine wine", 0.9)
    ]  # fmt: skip
    # Of several entities in a text the least certain one counts; a text without entities has no score.
    assert [(row["text"], row["score"]) for row in found.least_certain["names"]] == [("fine wine", 0.5), ("so so", 0.8)]


def test_example_rows_have_the_text_and_every_new_column():
    (first, second) = observed("lang=pt/a.parquet", FIRST, SECOND).examples
    assert first == {
        "file": "lang=pt/a.parquet",
        "text": "fine wine",
        "found": {"mood": "good (0.90)", "names": "Porto (LOC), Ana (PER)"},
    }
    assert second["text"] == "dull"


def test_labels_are_counted_by_partition_folder():
    shards = [("lang=pt/a.parquet", FIRST), ("lang=en/b.parquet", SECOND), ("lang=pt/c.parquet", SECOND)]
    found = Findings.merge(observed(key, rows) for key, rows in shards)
    assert found.partitions["mood"] == {"lang=pt": {"good": 2, "bad": 1}, "lang=en": {"good": 1}}
    assert observed("a.parquet", FIRST).partitions == {}


def test_partitions_past_the_limit_are_counted_together(monkeypatch):
    monkeypatch.setattr(findings, "MAX_PARTITIONS", 1)
    found = Findings.merge([observed(f"day={i}/a.parquet", SECOND) for i in range(3)])
    assert found.partitions["mood"] == {"day=0": {"good": 1}, "(other)": {"good": 2}}
    assert Findings.merge([found, found]).partitions["mood"] == {"day=0": {"good": 2}, "(other)": {"good": 4}}


def test_rejected_rows_are_counted_by_reason_and_the_first_are_kept():
    names = ["text", "_task", "_error_type", "_message", "_row", "_column"]
    rejected = pa.RecordBatch.from_pydict(
        dict(zip(names, [["x"], ["source"], ["InvalidValue"], ["'n/a' is no number"], [7], ["stars"]], strict=True))
    )
    found = observed("a.csv", FIRST, rejected=rejected)
    assert found.rejects == {"source: InvalidValue": 1}
    assert found.failures == [
        {
            "file": "a.csv",
            "row": 7,
            "column": "stars",
            "task": "source",
            "reason": "InvalidValue",
            "message": "'n/a' is no number",
        }
    ]


def test_findings_survive_json_and_merging_one_changes_nothing():
    found = observed("lang=pt/a.parquet", FIRST, SECOND)
    assert Findings.from_json(json.loads(json.dumps(found.to_json())) | {"of a later version": 1}) == found
    assert Findings.merge([found]) == found
    assert Findings.merge([]) == Findings()


def test_findings_of_many_rows_stay_small():
    observer = Observer(TASKS, "a.parquet")
    long = batch(*(("word " * 500, ("good", 0.5), [entity("LOC", "x" * 900, 0.5)] * 20) for _ in range(50)))
    for _ in range(20):
        observer.observe(long)
    assert len(json.dumps(observer.findings().to_json())) < 10_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, None),
        ({"label": "good", "score": 0.5}, "good (0.50)"),
        ([{"label": "price", "score": 0.9}, {"label": "size", "score": 0.8}], "price (0.90), size (0.80)"),
        ([entity("LOC", "Porto", 0.5)], "Porto (LOC)"),
        ({"text": "in Porto", "score": 0.25, "start": 3, "end": 11}, "in Porto (0.25)"),
        ([0.25] * 384, "384 numbers"),
        ("a summary\nof two lines", "a summary of two lines"),
        ({"city": "Porto", "stars": 4}, '{"city": "Porto", "stars": 4}'),
        ([], ""),
        ("x" * 1000, "x" * 239 + "…"),
    ],
)
def test_values_of_every_task_are_shown_as_short_text(value, text):
    assert shown(value) == text
