"""`run --only-rejected` tries the rows that a task has rejected again, a number of times, and does nothing else."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import cli, run, spec
from jobs.execute import shard as shards
from jobs.models.pool import ModelPool
from jobs.sink import open_sink
from jobs.source.formats import parquet
from tests import lake
from tests.lake import execute


def write(folder, name, *texts):
    folder.mkdir(exist_ok=True)
    ids = [f"{name}{i}" for i in range(len(texts))]
    pq.write_table(pa.table({"id": ids, "text": texts}), folder / f"{name}.parquet", row_group_size=2)


@pytest.fixture
def content(tmp_path, shout, monkeypatch):
    """A job that has run: two files of two shards each, and the task has rejected one row of one shard."""
    monkeypatch.setattr(parquet, "SHARD_ROWS", 2)
    write(tmp_path / "in", "a", "one", "bad", "two", "three")
    write(tmp_path / "in", "b", "four", "five", "six", "worse")
    content = {
        "name": "test",
        "source": {"path": str(tmp_path / "in")},
        "tasks": [{"task": shout.task, "column": "text", "into": "loud"}],
        "sink": {"path": str(tmp_path / "out"), "on_vanished": "remove"},
        "errors": {"max_fraction": 0.5},
    }
    shout.refuse("bad", "worse")
    execute(content)
    shout.taken()
    return content


def again(content):
    return run.run(spec.parse(content), only_rejected=True)


def entries(tmp_path):
    return open_sink(spec.SinkSpec(path=str(tmp_path / "out"))).published_entries().values()


def test_only_the_rejected_rows_are_computed_and_published_beside_the_others(tmp_path, shout, content):
    shout.refuse("worse")
    report = again(content)
    assert (report.rows_in, report.rows_reused, report.rows_rejected, report.tokens) == (4, 2, 1, 1)
    assert shout.taken() == ["bad"]
    assert lake.rejected(tmp_path / "out")["text"].to_pylist() == ["worse"]
    rows = lake.read(tmp_path / "out")
    assert rows["id"].to_pylist() == ["a0", "a1", "a2", "a3", "b0", "b1", "b2"]
    assert rows["loud"].to_pylist() == [text.upper() for text in rows["text"].to_pylist()]
    assert sorted(entry.attempts for entry in entries(tmp_path)) == [0, 0, 1, 1]
    assert execute(content).rows_in == 0


def test_new_changed_and_vanished_files_wait_for_a_run_that_does_everything(tmp_path, shout, content):
    before = lake.contents(tmp_path / "out")
    (tmp_path / "in" / "a.parquet").unlink()
    write(tmp_path / "in", "b", "worse", "five")
    write(tmp_path / "in", "c", "new")
    shout.refuse()
    assert again(content).rows_in == 0
    assert (lake.contents(tmp_path / "out"), shout.taken()) == (before, [])
    assert execute(content).rows_out == 3
    assert lake.read(tmp_path / "out")["id"].to_pylist() == ["b0", "b1", "c0"]


def test_shards_that_a_killed_run_staged_are_neither_published_nor_lost(tmp_path, shout, content):
    write(tmp_path / "in", "c", "new", "newer")
    write(tmp_path / "in", "a", "one", "bad", "two", "changed")

    # Nothing is finished: as after a kill.
    with run.holding(run.prepare(spec.parse(content))) as held:
        for shard in held.plan.shards_todo:
            shards.execute_shard(held.plan, shard, ModelPool(), held.sink)
    shout.taken()
    shout.refuse("bad")
    report = again(content)
    assert (report.rows_rejected, shout.taken()) == (1, ["worse"])
    assert "changed" not in lake.read(tmp_path / "out")["text"].to_pylist()
    assert execute(content).shards_skipped == 5
    assert shout.taken() == []
    assert {"changed", "new", "worse"} <= set(lake.read(tmp_path / "out")["text"].to_pylist())


def test_a_killed_attempt_is_finished_by_the_next_and_counts_once(tmp_path, shout, content):
    with run.holding(run.prepare(spec.parse(content), only_rejected=True)) as held:
        shards.execute_shard(held.plan, held.plan.shards_todo[0], ModelPool(), held.sink)
    again(content)
    assert sorted(entry.attempts for entry in entries(tmp_path)) == [0, 0, 1, 1]


@pytest.mark.usefixtures("settings_of_the_process")
def test_after_so_many_attempts_rows_are_left_alone_and_the_run_says_so(tmp_path, shout, content, capsys):
    content["errors"]["max_attempts"] = 2
    file = lake.write_job(tmp_path, content)

    def command():
        assert cli.main(["run", str(file), "--only-rejected"]) == 0
        done = capsys.readouterr()
        return json.loads(done.out.splitlines()[-1]), done.err.strip().splitlines()[-1:]

    first, said = command()
    assert (first["rows_rejected"], first["rows_given_up"]) == (2, 0)
    assert said == [f"2 of 4 rows were rejected; {tmp_path / 'out' / '_rejected'} has the reasons."]
    second, said = command()
    left_alone = "2 rejected rows were tried 2 times and are left alone; errors.max_attempts allows no more."
    assert (second["rows_given_up"], said) == (2, [left_alone])
    third, said = command()
    assert (third["rows_in"], said) == (0, [f"No rejected rows were tried again. {left_alone}"])
    shout.refuse()
    file = lake.write_job(tmp_path, content | {"errors": {"max_attempts": 3, "max_fraction": 0.5}})
    report, _ = command()
    assert (report["rows_rejected"], report["rows_given_up"]) == (0, 0)
    _, said = command()
    assert said[0].startswith("No rejected rows were tried again: a task rejected none of the finished shards' rows.")


def test_rows_that_could_not_be_read_are_not_tried_again(tmp_path, shout, content):
    (tmp_path / "in" / "more.jsonl").write_text(
        '{"id": "j0", "text": "fine"}\n{"id": "j1"\n{"id": "j2", "text": "bad"}\n'
    )
    shout.refuse("bad")
    execute(content)
    shout.taken()
    shout.refuse()
    report = again(content)
    assert (shout.taken(), report.rows_rejected) == (["bad", "bad", "worse"], 1)
    assert again(content).rows_in == 0


def test_another_option_waits_for_a_run_that_does_everything(shout, content):
    content["tasks"][0]["mark"] = ">"
    shout.refuse()
    assert again(content).rows_in == 0
    assert shout.taken() == []
