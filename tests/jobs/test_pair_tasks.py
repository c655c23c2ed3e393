"""Tasks that read several columns run in a job: a question and a list of labels for each row."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import pipeline

from jobs import run, spec
from tests import lake, tiny
from transforms.errors import SpecError
from transforms.tasks import answer, zero_shot

ROWS = 40
LONG = 7


def make_source(folder):
    texts = [None if i % 10 == 9 else text for i, text in enumerate(tiny.texts(ROWS))]
    table = pa.table(
        {
            "id": [f"r{i:02}" for i in range(ROWS)],
            "text": texts,
            "ask": ["who? " * 40 if i == LONG else "who is it?" for i in range(ROWS)],
            "tags": pa.array([None if i == 3 else ["good", "bad", f"a{i}"][: 1 + i % 3] for i in range(ROWS)]),
        }
    )
    folder.mkdir()
    pq.write_table(table, folder / "part.parquet", row_group_size=16)
    return table


def job(folder, models, **zero_shot_options):
    reply = {"task": "answer", "column": "text", "question_column": "ask", "model": str(models / "answer")}
    topic = {"task": "zero_shot", "column": "text", "labels_column": "tags", "model": str(models / "nli")}
    tasks = [reply | {"into": "reply", "null_threshold": 0}, topic | {"into": "topic"} | zero_shot_options]
    tasks = [task | {"dtype": "float32"} for task in tasks]
    return spec.parse(lake.job(folder / "in", folder / "out", models, tasks=tasks, errors={"max_fraction": 0.1}))


def test_both_tasks_run_in_one_job_and_a_row_that_breaks_one_keeps_its_columns(tmp_path, models):
    source = make_source(tmp_path / "in")
    report = run.run(job(tmp_path, models))
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (ROWS, ROWS - 1, 1)
    got = lake.read(tmp_path / "out")
    assert got.schema.field("reply").type == answer.ANSWER
    assert got.schema.field("topic").type == pa.list_(zero_shot.LABEL)
    kept = [i for i in range(ROWS) if i != LONG]
    assert got.select(source.schema.names).equals(source.take(kept))
    stock = pipeline("zero-shot-classification", model=str(models / "nli"), device="cpu")
    for row in got.to_pylist():
        assert (row["reply"] is None) == (row["text"] is None)
        assert (row["topic"] is None) == (row["text"] is None or row["tags"] is None)
        if row["reply"] is not None and row["reply"]["text"] is not None:
            assert row["text"][row["reply"]["start"] : row["reply"]["end"]] == row["reply"]["text"]
        if row["topic"] is not None:
            assert [item["label"] for item in row["topic"]] == stock(row["text"], row["tags"])["labels"]
    (rejected,) = lake.rejected(tmp_path / "out").to_pylist()
    assert (rejected["id"], rejected["_task"], rejected["_error_type"]) == (f"r{LONG:02}", "answer", "ValueError")
    assert rejected["tags"] == source["tags"][LONG].as_py()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"labels_column": "tag"}, "tasks.1: column 'tag' is not in the source; columns: id, text, ask, tags, reply"),
        (
            {"labels_column": "ask"},
            "tasks.1: column 'ask' is string, and zero_shot reads list<string>; list<string> columns: tags",
        ),
        ({"column": "tags"}, "tasks.1: column 'tags' is list<"),
    ],
)
def test_a_column_that_is_not_what_the_task_reads_is_refused(tmp_path, models, options, expected):
    make_source(tmp_path / "in")
    with pytest.raises(SpecError) as caught:
        run.run(job(tmp_path, models, **options))
    assert str(caught.value).startswith(expected)
    assert not (tmp_path / "out").exists()


def test_a_model_without_entailment_is_refused_before_anything_is_written(tmp_path, models):
    make_source(tmp_path / "in")
    with pytest.raises(
        Exception, match=r"tasks.1: zero_shot needs a model with a label called entailment beside others"
    ):
        run.run(job(tmp_path, models, model=str(models / "sentiment")))
    assert not (tmp_path / "out").exists()
