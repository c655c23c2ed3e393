"""A later task reads what an earlier one wrote: a column, or a field of a struct column."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from tests import lake
from transforms.errors import SpecError


def chain(tmp_path, models, column, table=None):
    """classify, then classify what it gave."""
    (tmp_path / "in").mkdir(exist_ok=True)
    pq.write_table(lake.rows(60) if table is None else table, tmp_path / "in" / "a.parquet", row_group_size=25)
    content = lake.job(tmp_path / "in", tmp_path / "out", models)
    second = content["tasks"][0] | {"column": column, "model": str(models / "spam"), "into": "again"}
    return spec.parse(content | {"tasks": [*content["tasks"], second]})


def test_a_field_of_an_earlier_task_is_read_and_a_null_in_the_middle_stays_null(tmp_path, models):
    report = run.run(chain(tmp_path, models, "sentiment.label"))
    got = lake.read(tmp_path / "out")
    assert got.schema.names == ["id", "text", "stars", "sentiment", "again"]
    labels = [row and row["label"] for row in got["sentiment"].to_pylist()]
    assert None in labels[1:-1]
    assert report.rows_rejected == 0
    scores: dict[str | None, set[float | None]] = {}
    for label, row in zip(labels, got["again"].to_pylist(), strict=True):
        scores.setdefault(label, set()).add(row and row["score"])
    assert scores.pop(None) == {None}
    assert len(scores) > 1
    assert all(len(of_label) == 1 for of_label in scores.values()), "one text, one score"


def test_a_field_of_a_source_column_is_read(tmp_path, models):
    struct = pa.array([{"body": "fine", "n": 1}, None, {"body": None, "n": 2}, {"body": "bad", "n": 3}])
    table = pa.table({"id": ["a", "b", "c", "d"], "text": ["w", "x", "y", "z"], "post": struct})
    run.run(chain(tmp_path, models, "post.body", table))
    got = lake.read(tmp_path / "out")
    assert got["again"].is_null().to_pylist() == [False, True, True, False]
    assert got["post"].to_pylist() == struct.to_pylist()


def test_a_column_with_a_dot_in_its_name_is_read_and_redone_with_the_task_that_adds_it(tmp_path, models):
    job = chain(tmp_path, models, "sentiment.label")
    run.run(job)
    plain = lake.read(tmp_path / "out")
    first, second = job.tasks[0].model_copy(update={"into": "mood.v1"}), job.tasks[1]
    second = second.model_copy(update={"column": "mood.v1.label"}, deep=True)

    def dotted(sink, first):
        sink = job.sink.model_copy(update={"path": str(tmp_path / sink)})
        run.run(job.model_copy(update={"tasks": [first, second], "sink": sink}))
        return lake.read(tmp_path / sink.path)

    got = dotted("dotted", first)
    assert got["mood.v1"].equals(plain["sentiment"])
    assert got["again"].equals(plain["again"])
    other = first.model_copy(update={"model": str(models / "spam")})
    redone = dotted("dotted", other)
    assert redone.equals(dotted("fresh", other))
    assert not redone["again"].equals(plain["again"])


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (
            "sentiment.lable",
            r"tasks.1: column 'sentiment.lable' is not in the source; columns: id, .*sentiment.label, ",
        ),
        ("text.x", r"tasks.1: column 'text.x' is not in the source; columns: id"),
        (
            "sentiment.score",
            r"'sentiment.score' is float, and classify reads text; text columns: id, text, sentiment.label",
        ),
        (
            "sentiment",
            r"tasks.1: column 'sentiment' is struct<.*>, and classify reads text; text columns: id, text, sent",
        ),
    ],
)
def test_a_missing_field_or_one_without_text_is_named_with_the_existing_fields(tmp_path, models, column, message):
    with pytest.raises(SpecError, match=message):
        run.run(chain(tmp_path, models, column))
