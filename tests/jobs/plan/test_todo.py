"""A plan says why each shard is to do, and refuses to take published rows away without being told to."""

import json
import shutil

import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.plan import planning
from jobs.source import content
from tests import lake
from tests.lake import execute
from transforms.errors import SpecError


@pytest.fixture
def finished(tmp_path, models):
    """A job whose lake of three files (180 rows) is enriched."""
    content = lake.job(lake.make_lake(tmp_path / "in"), tmp_path / "out", models)
    execute(content)
    return content


def reasons(content, **source):
    content = json.loads(json.dumps(content))
    content["source"] |= source
    return sorted(set(planning.make(spec.parse(content)).todo.values()))


def test_each_shard_that_is_to_do_has_a_reason(tmp_path, models, finished):
    assert reasons(finished) == []
    pq.write_table(lake.rows(6, start=9000), tmp_path / "in" / "lang=de" / "new.parquet")
    assert reasons(finished) == ["new file"]
    pq.write_table(lake.rows(70, start=5000), tmp_path / "in" / "lang=de" / "part-0.parquet")
    assert reasons(finished) == ["changed file", "new file"]
    execute(finished)
    finished["tasks"][0]["top_k"] = 2
    assert reasons(finished) == ["another model, adapter or option for sentiment"]
    del finished["tasks"][0]["top_k"]
    finished["tasks"].append(finished["tasks"][0] | {"into": "again", "dtype": "auto"})
    assert reasons(finished) == ["new column again"]


@pytest.mark.parametrize("source", [{"where": "stars = 1"}, {"limit": 50, "where": "stars < 9"}])
def test_a_condition_or_a_limit_that_would_remove_published_rows_is_refused(tmp_path, finished, source):
    finished["source"] |= source
    before = lake.contents(tmp_path / "out")
    with pytest.raises(SpecError, match=r"would leave \d+ of the 60 published rows of 'lang=de/part-0.parquet'.*"):
        execute(finished)
    assert lake.contents(tmp_path / "out") == before


def test_rows_are_removed_if_the_job_asks_for_it(tmp_path, finished):
    finished["source"]["where"] = "stars = 1"
    finished["sink"]["allow_fewer_rows"] = True
    assert execute(finished).rows_out == 36
    assert set(lake.read(tmp_path / "out")["stars"].to_pylist()) == {1}


def test_a_condition_that_every_row_meets_is_accepted(tmp_path, finished):
    finished["source"]["where"] = "stars >= 0"
    assert execute(finished).rows_out == 180


def test_an_unreadable_row_does_not_count_as_removed_by_a_new_condition(tmp_path, finished):
    lines = ['{"id": "x", "text": "fine", "stars": 1}', '{"id": "y", "te', '{"id": "z", "text": "fine", "stars": 2}']
    (tmp_path / "in" / "lang=de" / "c.jsonl").write_text("\n".join(lines))
    finished["errors"] = {"max_fraction": 0.5}
    assert execute(finished).rows_rejected == 1
    finished["source"]["where"] = "stars >= 0"
    assert execute(finished).rows_rejected == 1


def test_a_file_without_rows_after_the_condition_is_finished(tmp_path, finished):
    lines = ['{"id": "x", "text": "fine", "stars": 1}', '{"id": "y", "text": "fine", "stars": 2}']
    (tmp_path / "in" / "lang=de" / "c.jsonl").write_text("\n".join(lines))
    finished["source"]["where"] = "stars > 3"
    finished["sink"]["path"] = str(tmp_path / "other")
    report = execute(finished)
    assert report.shards_done == 4
    assert 0 < report.rows_out < 100
    assert execute(finished).rows_in == 0


def test_a_source_file_that_became_shorter_is_enriched(tmp_path, finished):
    pq.write_table(lake.rows(10, start=1000), tmp_path / "in" / "lang=de" / "part-0.parquet")
    assert execute(finished).rows_out == 10
    assert len(lake.read(tmp_path / "out")) == 130


def test_a_limit_does_not_shorten_a_file_that_was_rewritten(tmp_path, finished):
    pq.write_table(lake.rows(80, start=1000), tmp_path / "in" / "lang=de" / "part-0.parquet")
    finished["source"]["limit"] = 5
    with pytest.raises(SpecError, match=r"source.limit 5 would leave 5 of the 60 published rows"):
        execute(finished)


def test_a_copied_lake_with_new_times_is_done_and_stays_done(tmp_path, finished, monkeypatch):
    shutil.copytree(tmp_path / "in", tmp_path / "copy", copy_function=shutil.copyfile)
    shutil.rmtree(tmp_path / "in")
    (tmp_path / "copy").rename(tmp_path / "in")
    assert reasons(finished) == []
    report = execute(finished)
    assert (report.rows_in, report.shards_skipped) == (0, 3)
    monkeypatch.setattr(content, "content_hash", lambda shard: pytest.fail("hashed again"))
    assert execute(finished).shards_skipped == 3


def test_a_file_of_the_same_size_with_another_content_is_changed(tmp_path, finished):
    file = tmp_path / "in" / "lang=de" / "part-0.parquet"
    data = bytearray(file.read_bytes())
    at = data.index(b"r10")
    data[at : at + 3] = b"r99"
    file.write_bytes(bytes(data))
    assert reasons(finished) == ["changed file"]
