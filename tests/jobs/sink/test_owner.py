"""A sink belongs to one job: another job, or another source, is refused until it takes the sink over on purpose."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import spec
from jobs.plan import planning
from jobs.sink import owner
from jobs.store import Store
from tests import lake
from tests.lake import execute
from transforms.errors import SinkError, SpecError


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


def test_a_mistyped_source_path_is_named_and_not_the_owner_of_the_sink(two_lakes, models):
    execute(job(two_lakes, models))
    with pytest.raises(SpecError, match=r"source.path .*esat.* matches no data file"):
        execute(job(two_lakes, models, "esat"))


def test_a_sink_is_handed_over_on_purpose(two_lakes, models):
    execute(job(two_lakes, models))
    report = execute(job(two_lakes, models, "west", "second", take_over_from="first"))
    assert report.rows_out == 20
    recorded = owner.read(Store(str(two_lakes / "out")))
    assert (recorded.job, recorded.taken_over_from) == ("second", "first")
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


def test_a_sink_without_an_owner_belongs_to_the_job_whose_plan_it_keeps(two_lakes, models):
    execute(job(two_lakes, models))
    (two_lakes / "out/_nightscribe/owner.json").unlink()
    with pytest.raises(SpecError, match="belongs to job 'first'"):
        execute(job(two_lakes, models, name="second"))
    assert execute(job(two_lakes, models)).shards_skipped == 1


def test_a_damaged_owner_file_is_reported_in_one_sentence(two_lakes, models):
    execute(job(two_lakes, models))
    (two_lakes / "out/_nightscribe/owner.json").write_text('{"job": "fir')
    with pytest.raises(SinkError, match=r"owner.json is damaged.*restore the file, or delete it"):
        planning.make(spec.parse(job(two_lakes, models)))


def test_links_and_dots_in_paths_name_the_same_source(two_lakes, models, monkeypatch):
    execute(job(two_lakes, models))
    (two_lakes / "link").symlink_to(two_lakes / "east")
    monkeypatch.chdir(two_lakes / "west")
    for path in (two_lakes / "link", "../east", f"{two_lakes}/west/../east/", f"{two_lakes}/east/*/*.parquet"):
        content = job(two_lakes, models)
        content["source"]["path"] = str(path)
        assert execute(content).shards_skipped == 1


@pytest.mark.parametrize(
    ("source", "other"),
    [
        ({"dataset": "org/texts"}, {"dataset": "org/texts", "split": "test"}),
        ({"dataset": "org/texts"}, {"dataset": "org/texts", "config": "de"}),
        ({"dataset": "org/texts"}, {"path": "org/texts"}),
        ({"path": "s3://lake/a/*.parquet"}, {"path": "s3://lake/b/*.parquet"}),
        ({"path": "s3://lake/a"}, {"path": "lake/a"}),
        ({"path": ["a", "b"]}, {"path": ["a", "c"]}),
    ],
)
def test_another_source_is_refused_but_another_revision_or_pattern_is_not(tmp_path, models, source, other):
    sink = Store(str(tmp_path / "out"))
    owner.record(spec.parse(lake.job(source, tmp_path / "out", models)), sink, pa.schema([]))
    same = dict(source)
    if "dataset" in source:
        same["revision"] = "v2"
    elif isinstance(source["path"], list):
        same["path"] = ["b/*.csv", "a/"]
    else:
        same["path"] = "s3://lake/a/x=*/[ab].parquet"
    assert owner.check(spec.parse(lake.job(same, tmp_path / "out", models)), sink) is not None
    with pytest.raises(SpecError, match="belongs to job 'test' with the source"):
        owner.check(spec.parse(lake.job(other, tmp_path / "out", models)), sink)


def test_an_owner_is_recorded_without_the_password_of_its_source(tmp_path):
    source = {"path": "https://me:secret@host/lake/x.csv?sig=secret"}
    task = {"task": "classify", "column": "text", "model": "m", "into": "s"}
    job = spec.parse({"name": "a", "source": source, "tasks": [task], "sink": {"path": str(tmp_path)}})
    assert owner.of(job, Store(str(tmp_path))).source == ("https://***@host/lake",)


def test_a_file_url_and_the_path_of_the_same_folder_are_one_source(two_lakes, models):
    content = job(two_lakes, models)
    execute(content)
    content["source"]["path"] = f"file://{two_lakes / 'east'}"
    assert execute(content).rows_in == 0


def test_a_sink_inside_of_another_sink_is_refused(two_lakes, models):
    execute(job(two_lakes, models))
    content = job(two_lakes, models, "west", "second")
    content["sink"]["path"] = str(two_lakes / "out" / "deeper" / "second")
    with pytest.raises(SpecError, match=r"lies inside of '.*out', which is another sink"):
        execute(content)
