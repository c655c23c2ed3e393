"""`plan --why` gives a reason for each shard that is to do, with what it was and what it is now."""

from __future__ import annotations

import json
import os

import pyarrow.parquet as pq
import pytest

from jobs import cli, run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.plan import planning, why
from jobs.registry import Registry
from jobs.source.formats import parquet
from tests import lake
from tests.jobs.registry import versions
from tests.lake import execute


@pytest.fixture
def finished(tmp_path, models):
    """A job whose lake of two files is enriched."""
    content = lake.job(lake.make_lake(tmp_path / "in", files=2), tmp_path / "out", models)
    execute(content)
    return content


def reasons(content):
    plan, sink = planning.against_sink(spec.parse(content))
    return {each.file: each.text for each in why.of(plan, sink)}


def test_a_changed_file_is_told_with_its_size_and_time_before_and_now(tmp_path, finished):
    file = tmp_path / "in/lang=de/part-0.parquet"
    os.utime(file, ns=(0, 1_700_000_000_123_456_789))
    execute(finished)
    before = file.stat().st_size
    pq.write_table(lake.rows(70, start=5000), file)
    os.utime(file, ns=(0, 1_800_000_000_123_456_789))
    now = file.stat().st_size
    assert reasons(finished) == {
        "lang=de/part-0.parquet": f"changed file: {before:,} bytes of 2023-11-14 22:13:20 UTC -> "
        f"{now:,} bytes of 2027-01-15 08:00:00 UTC"
    }


def test_an_option_is_told_with_both_values_and_a_new_column_as_such(tmp_path, finished):
    finished["tasks"][0] |= {"top_k": 2}
    changed = "another model, adapter or option for sentiment: top_k none -> 2"
    assert set(reasons(finished).values()) == {changed}
    # Without the plan of the run only the kind of the reason is known.
    for plan in (tmp_path / "out/_nightscribe/plans").iterdir():
        plan.unlink()
    assert set(reasons(finished).values()) == {"another model, adapter or option for sentiment"}
    del finished["tasks"][0]["top_k"]
    finished["tasks"].append(finished["tasks"][0] | {"into": "again", "dtype": "auto"})
    assert set(reasons(finished).values()) == {"new column again"}


def test_columns_that_are_new_left_out_or_of_another_type_are_told(tmp_path, finished):
    file, other = tmp_path / "in/lang=de/part-0.parquet", "lang=en/part-1.parquet"
    table = pq.read_table(file, partitioning=None)
    pq.write_table(table.append_column("extra", [[1.5] * len(table)]), file)
    assert reasons(finished)[other] == "other columns: extra (double) is new"
    pq.write_table(table.set_column(2, "stars", table["stars"].cast("int64")), file)
    assert reasons(finished)[other] == "other columns: stars int8 -> int64"
    pq.write_table(table, file)
    finished["source"]["columns"] = ["text", "stars"]
    assert reasons(finished)[other] == 'other columns: source.columns none -> ["text", "stars"]; id is left out'
    finished["source"]["columns"] = ["stars", "text", "id"]
    assert reasons(finished)[other].endswith("; in another order")


def test_a_column_that_cannot_be_kept_for_its_type_is_told(finished):
    finished["sink"]["on_model_change"] = "keep"
    finished["tasks"][0]["dtype"] = "bfloat16"
    assert reasons(finished) == {}
    finished["tasks"][0] |= {"dtype": "float32", "top_k": 2}
    (text,) = set(reasons(finished).values())
    assert text.startswith("another model, adapter or option for sentiment: top_k none -> 2; ")
    assert ", and a column of another type is not kept" in text


def test_another_adapter_is_told_with_both_versions(tmp_path, models, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    registry = Registry(str(tmp_path / "registry"))
    one, two = (versions.add(registry, models / "sentiment", tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    content = lake.job(lake.make_lake(tmp_path / "in", files=1, n=20), tmp_path / "out", models)
    content["tasks"][0]["adapter"] = f"{registry.url}@champion"
    execute(content)
    registry.promote(two, "gate", "better")
    (text,) = reasons(content).values()
    assert text.startswith(f"another model, adapter or option for sentiment: adapter {registry.url}@{one} (")
    assert f" -> {registry.url}@{two} (" in text


def test_other_rows_are_told_with_the_key_that_chooses_them(finished):
    finished["source"]["where"] = "length(text) >= 0 or text is null"
    assert set(reasons(finished).values()) == {
        "other rows are read (where, prepare, types): source.where none -> length(text) >= 0 or text is null"
    }


def test_the_rest_of_a_file_that_a_killed_run_has_begun_is_no_changed_file(tmp_path, models, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 20)
    content = lake.job(lake.make_lake(tmp_path / "in", files=1), tmp_path / "out", models)
    with run.holding(planning.make(spec.parse(content))) as held:
        shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
    plan, sink = planning.against_sink(spec.parse(content))
    assert [(each.part, each.text) for each in why.of(plan, sink)] == [
        ("row group 1", "rest of a file, of which 1 shard is done"),
        ("row group 2", "rest of a file, of which 1 shard is done"),
    ]


@pytest.mark.usefixtures("settings_of_the_process")
def test_the_command_prints_a_line_for_each_shard_and_the_same_as_json(tmp_path, finished, capsys):
    pq.write_table(lake.rows(6, start=9000), tmp_path / "in/lang=de/new.parquet")
    file = lake.write_job(tmp_path, finished)
    assert cli.main(["plan", str(file), "--why"]) == 0
    assert capsys.readouterr().out.endswith("\n\nlang=de/new.parquet  new file\n")
    assert cli.main(["plan", str(file), "--why", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)["why"]
    assert (found["file"], found["reason"], found["text"]) == ("lang=de/new.parquet", "new file", "new file")
    assert cli.main(["plan", str(file)]) == 0
    assert "lang=de/new.parquet" not in capsys.readouterr().out
