"""`nightscribe trace` says where a row of a sink comes from, without a look at a model."""

from __future__ import annotations

import json
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli, spec
from jobs.registry import Registry
from jobs.sink import open_sink
from jobs.store import names
from jobs.trace import Traced, place, trace
from jobs.trace.text import text
from tests import lake
from tests.jobs.registry import versions
from tests.lake import execute
from transforms.errors import SpecError, UnreadableSink


def rows(content, condition, limit=20):
    return trace(open_sink(spec.parse(content).sink), condition, limit).rows


def test_a_row_is_traced_to_its_file_and_to_the_adapter_of_its_night(tmp_path, models, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(str(tmp_path / "registry"))
    one, two = (versions.add(registry, models / "sentiment", tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    source = lake.make_lake(tmp_path / "in", files=1, n=30)
    content = lake.job(source, tmp_path / "out", models)
    content["sink"]["on_model_change"] = "keep"
    content["tasks"][0]["adapter"] = f"{registry.url}@champion"
    first = execute(content)
    registry.promote(two, "gate", "better")
    pq.write_table(lake.rows(30, start=5000), source / "lang=de" / "part-9.parquet")
    second = execute(content)
    old, new = rows(content, "id in ('r1003', 'r5003')")
    assert (old.source, new.source) == ("lang=de/part-0.parquet", "lang=de/part-9.parquet")
    assert old.version == f"{(source / old.source).stat().st_size}-{(source / old.source).stat().st_mtime_ns}"
    assert (old.run_id, new.run_id) == (first.run_id, second.run_id)
    assert (old.row["id"], old.row["lang"], old.file_row) == ("r1003", "de", 3)
    for origin, version in ((old, one), (new, two)):
        (column,) = origin.columns
        settings = column.settings
        assert (column.name, column.task, column.taken_over) == ("sentiment", "classify", "none")
        assert settings.adapter["name"] == f"{registry.url}@{version}"
        assert settings.model["commit"] in column.footer
        assert (settings.dtype, settings.engine, settings.device) == ("float32", "torch", "cpu")
        assert settings.options["column"] == "text"
        written = lake.read(tmp_path / "out").to_pylist()
        assert column.value == next(row["sentiment"] for row in written if row["id"] == origin.row["id"])


@pytest.fixture
def finished(tmp_path, models):
    """A job over three files of 60 rows in two partition folders, enriched."""
    content = lake.job(lake.make_lake(tmp_path / "in"), tmp_path / "out", models)
    execute(content)
    return content


def test_a_condition_may_name_partition_columns_and_columns_of_tasks(finished):
    found = rows(finished, "lang = 'en' and stars = 3 and sentiment.label = 'positive'", limit=100)
    assert {origin.source for origin in found} == {"lang=en/part-1.parquet"}
    assert {(origin.row["stars"], origin.columns[0].value["label"]) for origin in found} == {(3, "positive")}


def test_a_renamed_column_is_traced_to_the_file_it_was_taken_over_from(finished):
    finished["tasks"][0]["into"] = "mood"
    execute(finished)
    (origin,) = rows(finished, "id = 'r1003' and mood is not null")
    (column,) = origin.columns
    assert (column.name, column.taken_over) == ("mood", "all")
    assert column.fingerprint


def test_a_row_that_may_be_taken_over_is_told_with_the_rows_of_its_shard(tmp_path, finished):
    more = pa.concat_tables([lake.rows(60, start=1000), lake.rows(1, start=9000, seed=7)])
    pq.write_table(more, tmp_path / "in/lang=de/part-0.parquet")
    assert execute(finished).rows_reused == 60
    (origin,) = rows(finished, "id = 'r1003'")
    assert (origin.rows_reused, origin.columns[0].taken_over) == (60, "some")
    assert "60 of the 61 rows of this shard took results over" in text(Traced([origin], 0))


def test_the_models_of_a_run_whose_plan_was_deleted_come_from_the_footer(tmp_path, finished):
    shutil.rmtree(tmp_path / "out" / names.PLANS)
    (origin,) = rows(finished, "id = 'r1003'")
    (column,) = origin.columns
    assert column.settings is None
    assert column.task == "classify"
    assert "/sentiment@" in column.footer


def test_a_rejected_row_is_traced_with_the_reason(tmp_path, noop_task):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,text\n1,one\n2,two,more\n3,three\n")
    content = {
        "name": "nightly",
        "source": {"path": str(tmp_path / "in")},
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(tmp_path / "out")},
        "errors": {"max_fraction": 1.0},
    }
    execute(content)
    (origin,) = rows(content, "_task = 'source'")
    assert (origin.source, origin.rejected.task, origin.rejected.record) == ("a.csv", "source", 2)
    assert origin.rejected.message
    assert origin.file.endswith(names.REJECTED_ENDING)
    # A column of a task is null in a rejected row.
    assert len(rows(content, "id is null or id = 3 or nothing is not null")) == 3


def test_the_first_rows_are_told_and_how_many_more_there_are(finished):
    sink = open_sink(spec.parse(finished).sink)
    traced = trace(sink, "stars >= 0", 7)
    assert (len(traced.rows), traced.more) == (7, 173)
    assert [trace(sink, "stars >= 0", 180).more, trace(sink, "id = 'x'", 1).rows] == [0, []]


def test_a_damaged_part_is_told_by_its_name(tmp_path, finished):
    part = lake.parts(tmp_path / "out")[1]
    part.write_bytes(part.read_bytes()[:-10])
    with pytest.raises(UnreadableSink, match=rf"{part.name}' is damaged .* restore the file, or delete it and run"):
        rows(finished, "id = 'r1003'")


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("idd = 17", "/out'; columns: id, text, stars, sentiment"),
        ("idd = 17", "column 'idd' is not in the sink '/"),
        ("count(*) > 1", "is computed over many rows"),
        ("id = 17", "cannot be computed for every row: Conversion Error"),
    ],
)
def test_a_wrong_condition_is_told_in_a_sentence(finished, condition, said):
    with pytest.raises(SpecError, match=r"^--where ") as raised:
        rows(finished, condition)
    assert said in str(raised.value)


@pytest.mark.parametrize("name", ["is[a]", "star*", "ques?tion", "sp ace"])
def test_files_with_any_name_are_searched(tmp_path, noop_task, name):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / f"{name}.csv").write_text("id,text\n1,one\n")
    task = {"task": "noop", "column": "text", "into": "nothing"}
    content = {"name": "nightly", "source": {"path": str(tmp_path / "in")}, "tasks": [task]}
    content["sink"] = {"path": str(tmp_path / "out")}
    execute(content)
    (origin,) = rows(content, "id = 1")
    assert origin.source == f"{name}.csv"


def test_rows_of_a_sink_on_an_object_store_are_traced(tmp_path, noop_task):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("id,text\n1,one\n")
    task = {"task": "noop", "column": "text", "into": "nothing"}
    content = {"name": "nightly", "source": {"path": str(tmp_path / "in")}, "tasks": [task]}
    content["sink"] = {"path": f"memory://{tmp_path.name}"}
    execute(content)
    (origin,) = trace(place.opened(f"memory://{tmp_path.name}"), "id = 1", 20).rows
    assert origin.source == "a.csv"


def test_shards_that_share_a_part_file_have_their_own_rows(tmp_path, finished):
    """As the part files of a table: two shards of different files, one after the other in one part file."""
    sink = open_sink(spec.parse(finished).sink)
    first, second = sorted((e for e in sink.published.read().values() if "de" in e.key), key=lambda e: e.key)
    files = [pq.read_table(tmp_path / "out" / entry.part, partitioning=None) for entry in (first, second)]
    pq.write_table(pa.concat_tables(files), tmp_path / "out" / first.part)
    (tmp_path / "out" / second.part).unlink()
    pieces = [{"part": first.part, "first_row": first.rows_out, "rows": second.rows_out}]
    content = second.to_json() | {"part": first.part, "pieces": pieces, "in_table": True}
    sink.published.write(type(second).from_json(content))
    (origin,) = rows(finished, "id = 'r3003'")
    assert (origin.source, origin.file, origin.file_row) == (second.key, first.part, first.rows_out + 3)


@pytest.mark.usefixtures("settings_of_the_process")
def test_the_command_prints_text_or_json_and_says_what_is_no_sink(tmp_path, finished, capsys):
    out = str(tmp_path / "out")
    assert cli.main(["trace", out, "--where", "id = 'r1003'"]) == 0
    printed = capsys.readouterr().out
    assert "row        id=r1003" in printed
    assert "source     lang=de/part-0.parquet, version " in printed
    assert f"classify, model {finished['tasks'][0]['model']} (" in printed
    job = lake.write_job(tmp_path, finished)
    assert cli.main(["trace", "--job", str(job), "--where", "stars >= 0", "--json", "--limit", "2"]) == 0
    printed = capsys.readouterr()
    assert [json.loads(line)["file_row"] for line in printed.out.splitlines()] == [0, 1]
    assert "178 more rows match" in printed.err
    assert cli.main(["trace", out, "--where", "id = 'x'"]) == 0
    assert capsys.readouterr().out == "no row matches\n"
    assert cli.main(["trace", str(tmp_path / "in"), "--where", "true"]) == 2
    assert "is no sink" in capsys.readouterr().err
    assert cli.main(["trace", "--where", "true"]) == 2
    assert "give either SINK" in capsys.readouterr().err
