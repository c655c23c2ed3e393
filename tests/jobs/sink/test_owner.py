"""A sink belongs to one job: another job, or another source, is refused until it takes the sink over on purpose."""

import shutil

import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.plan import planning
from tests import lake
from tests.lake import execute
from transforms.errors import SpecError


@pytest.fixture
def two_lakes(tmp_path):
    """Two lakes whose files have the same names."""
    lake.make_lake(tmp_path / "east", files=1, n=20)
    (tmp_path / "west" / "lang=de").mkdir(parents=True)
    pq.write_table(lake.rows(20, seed=7), tmp_path / "west" / "lang=de" / "part-0.parquet")
    return tmp_path


def job(folder, models, source="east", name="first", **sink):
    content = lake.job(folder / source, folder / "out", models, name=name)
    content["sink"] |= sink
    return content


@pytest.mark.parametrize(("name", "source"), [("second", "west"), ("first", "west"), ("second", "east")])
def test_another_job_or_another_source_is_refused_and_nothing_is_touched(two_lakes, models, name, source):
    execute(job(two_lakes, models))
    before = lake.contents(two_lakes / "out")
    for call in (execute, lambda content: planning.make(spec.parse(content))):
        with pytest.raises(SpecError, match=r"belongs to job 'first' with the source .*east.*take_over_from=first"):
            call(job(two_lakes, models, source, name, on_vanished="remove"))
    assert lake.contents(two_lakes / "out") == before


def test_a_sink_is_handed_over_on_purpose(two_lakes, models):
    execute(job(two_lakes, models))
    report = execute(job(two_lakes, models, "west", "second", take_over_from="first"))
    assert report.rows_out == 20
    # From now on it is the second job's, with the key or without.
    assert execute(job(two_lakes, models, "west", "second")).shards_skipped == 1
    with pytest.raises(SpecError, match="belongs to job 'second'"):
        execute(job(two_lakes, models))


def test_a_project_folder_can_be_moved(two_lakes, models, tmp_path_factory):
    execute(job(two_lakes, models))
    moved = tmp_path_factory.mktemp("elsewhere") / "project"
    shutil.copytree(two_lakes, moved)
    shutil.rmtree(two_lakes / "east")
    assert execute(job(moved, models)).shards_skipped == 1


def test_another_pattern_over_the_same_folder_is_the_same_source(two_lakes, models):
    execute(job(two_lakes, models))
    content = job(two_lakes, models)
    content["source"]["path"] += "/**/*.parquet"
    assert execute(content).shards_skipped == 1


def test_rows_of_files_that_are_gone_are_announced_removed_and_counted(two_lakes, models):
    lake.make_lake(two_lakes / "east", files=3, n=20)
    execute(job(two_lakes, models))
    (two_lakes / "east" / "lang=de" / "part-2.parquet").unlink()
    kept = execute(job(two_lakes, models))
    assert (kept.rows_removed, kept.rows_vanished) == (0, 20)
    content = job(two_lakes, models, on_vanished="remove")
    assert planning.make(spec.parse(content)).removals == {"lang=de/part-2.parquet": 20}
    assert execute(content).rows_removed == 20
    assert len(lake.read(two_lakes / "out")) == 40
