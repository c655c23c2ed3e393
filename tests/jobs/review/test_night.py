"""Rows of real nights that are drawn for review: which, how often, and what a kill leaves."""

import json
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import run, spec
from jobs.registry import Registry
from jobs.retraining import state
from jobs.review import columns, night
from jobs.training import identity
from tests import lake
from tests.jobs.registry import versions
from transforms.errors import SpecError


@pytest.fixture
def content(tmp_path, models):
    """A job over two files of 60 rows that draws about 20 rows of each run."""
    source = lake.make_lake(tmp_path / "in", files=2)
    return lake.job(source, tmp_path / "out", models, review={"rows": 20, "path": str(tmp_path / "review")})


def drawn(folder):
    """The drawn rows of each run, in order."""
    return [pq.read_table(file) for file in sorted((folder / "review" / "draws" / "test").glob("*.parquet"))]


def test_drawn_rows_have_their_columns_predictions_probabilities_and_origin(content, tmp_path):
    report = lake.execute(content)
    (rows,) = drawn(tmp_path)
    assert 0 < len(rows) == report.rows_drawn < 60
    assert Counter(rows[columns.DRAWN].to_pylist()).keys() == {columns.UNIFORM, columns.UNCERTAIN}
    scores = pq.read_table(tmp_path / "review" / columns.scores_file("test", report.run_id))["score"].to_numpy()
    parts = {
        file.relative_to(tmp_path / "out").as_posix(): pq.read_table(file) for file in lake.parts(tmp_path / "out")
    }
    for row in rows.to_pylist():
        origin = parts[row["review_part"]].slice(row["review_row"], 1).to_pylist()[0]
        assert {key: row[key] for key in origin} == origin
        assert row["review_text"] == row["text"]
        assert row["review_key"] == identity.key(row["text"])
        assert row["review_prediction"] == row["sentiment"]["label"]
        assert row["review_score"] == pytest.approx(row["sentiment"]["score"])
        assert scores[row["review_position"]] == pytest.approx(row["review_score"])
        assert 0 < row["review_probability"] <= 1
        assert row["lang"] in row["review_file"]
        assert row["review_run"] == report.run_id
        assert "sentiment@" in row["review_model"]
    distinct = {text for part in parts.values() for text in part["text"].to_pylist() if text}
    assert len(scores) == len({identity.key(text) for text in distinct})


def test_texts_of_a_column_with_a_dot_in_its_name_are_drawn(content, tmp_path):
    for file in (tmp_path / "in").rglob("*.parquet"):
        table = pq.read_table(file, partitioning=None)
        pq.write_table(table.rename_columns(["id", "post.text", "stars"]), file)
    content["tasks"][0]["column"] = "post.text"
    assert lake.execute(content).rows_drawn > 0
    (rows,) = drawn(tmp_path)
    assert rows["review_text"].to_pylist() == rows["post.text"].to_pylist()


def test_no_row_is_drawn_twice_however_often_the_lake_is_enriched_again(content, tmp_path):
    keys: list[str] = []
    for turn in range(6):
        content["tasks"][0]["max_tokens"] = None
        content["tasks"][0]["long_text"] = "truncate" if turn % 2 else "window"
        lake.execute(content)
        keys = [key for rows in drawn(tmp_path) for key in rows[columns.KEY].to_pylist()]
        assert len(keys) == len(set(keys))
    assert len(drawn(tmp_path)) == 6
    assert len(keys) > 60


def test_a_run_without_new_rows_draws_nothing(content, tmp_path):
    lake.execute(content)
    assert lake.execute(content).rows_drawn == 0
    assert len(drawn(tmp_path)) == 1


def killed(content, monkeypatch, before: bool):
    """A run that ends just before, or just after, its commit."""
    parsed = spec.parse(content)
    commit = night.FolderSink.commit

    def stop(self, plan, check):
        if not before:
            commit(self, plan, check)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(night.FolderSink, "commit", stop)
        with pytest.raises(KeyboardInterrupt):
            run.run(parsed)


@pytest.mark.parametrize("before", [True, False])
def test_a_run_killed_around_its_commit_is_drawn_once(content, tmp_path, monkeypatch, before):
    killed(content, monkeypatch, before)
    assert not (tmp_path / "review").exists()
    lake.execute(content)
    (rows,) = drawn(tmp_path)
    assert len(set(rows["review_run"].to_pylist())) == 1
    assert list((tmp_path / "out" / "_nightscribe" / "review").iterdir()) == []
    parts = {file.relative_to(tmp_path / "out").as_posix() for file in lake.parts(tmp_path / "out")}
    assert set(rows["review_part"].to_pylist()) <= parts


def test_rows_on_which_a_waiting_challenger_differs_are_drawn_uniformly(content, tmp_path, models, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(str(tmp_path / "registry"))
    champion, challenger = (versions.add(registry, models / "sentiment", tmp_path, seed) for seed in (1, 2))
    registry.promote(champion, "gate", "first")
    state.keep_ring(registry, state.ring(registry).enter(challenger, champion, "2026-01-01T00:00:00+00:00"))
    content["tasks"][0]["adapter"] = f"{registry.url}@champion"
    content["review"] |= {"rows": 30}
    lake.execute(content)
    (rows,) = drawn(tmp_path)
    differ = rows.filter(pa.compute.equal(rows[columns.DRAWN], columns.DIFFERENCE)).to_pylist()
    assert differ
    for row in differ:
        assert row["review_prediction"] != row["review_challenger_prediction"]
        assert (row["review_champion"], row["review_challenger"]) == (champion, challenger)
        assert row["review_differences"] == len(differ)
        assert 0 < row["review_probability"] <= 1
    scores = pq.read_table(next((tmp_path / "review").rglob("scores/**/*.parquet")))
    uniform = rows.num_rows - len(differ)
    assert differ[0]["review_others"] + len(differ) + uniform == len(scores)
    assert Counter(rows[columns.DRAWN].to_pylist()).keys() == {columns.UNIFORM, columns.DIFFERENCE}

    content["tasks"][0]["adapter"] = f"{registry.url}@{challenger}"
    lake.execute(content)
    assert columns.DIFFERENCE not in drawn(tmp_path)[1][columns.DRAWN].to_pylist(), "it is compared with the champion"


@pytest.mark.parametrize(
    ("review", "complaint"),
    [
        ({"rows": 0}, "review.rows"),
        ({"rows": 5, "by": "certain"}, "review.by"),
        ({"rows": 5, "into": "feeling"}, "review.into is 'feeling'; columns that can be reviewed: sentiment"),
        ({"rows": 5, "path": "in/review"}, "lies inside source.path"),
        ({"rows": 5, "path": "out/review"}, "lie in each other"),
        ({"rows": 5, "path": "in"}, "lies in review.path"),
    ],
)
def test_a_wrong_review_is_refused_before_anything_is_written(content, tmp_path, monkeypatch, review, complaint):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SpecError, match=complaint):
        lake.execute(content | {"review": content["review"] | review})
    assert not (tmp_path / "out").exists()


def test_the_estimate_of_uniform_rows_is_right_over_many_nights(content, tmp_path):
    """Weighted by 1 / probability, the drawn rows stand for all rows: here for their mean score."""
    estimates = []
    for turn in range(12):
        content["sink"]["path"] = str(tmp_path / f"out{turn}")
        content["review"]["path"] = str(tmp_path / f"review{turn}")
        report = lake.execute(content)
        review = tmp_path / f"review{turn}"
        rows = pq.read_table(next(review.rglob("draws/**/*.parquet")))
        scores = pq.read_table(review / columns.scores_file("test", report.run_id))["score"].to_numpy()
        weights = 1 / rows["review_probability"].to_numpy()
        estimates.append((weights * rows["review_score"].to_numpy()).sum() / scores.sum())
    assert np.mean(estimates) == pytest.approx(1, abs=4 * np.std(estimates) / np.sqrt(12))


def test_the_plan_keeps_the_review_of_the_job(content):
    parsed = spec.parse(content)
    assert json.loads(run.prepare(parsed).to_json())["spec"]["review"]["by"] == "mixed"
