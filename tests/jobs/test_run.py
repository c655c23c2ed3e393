"""A job runs end to end on a real Beam runner: nothing lost, nothing twice, whatever happens to it."""

import json
import os
import signal
import subprocess
import sys
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from filelock import FileLock
from transformers import pipeline

from jobs import plan as planning
from jobs import run, spec
from jobs.source import parquet
from tests import lake
from transforms.errors import ModelError, SinkBusy, SinkError, SpecError, TooManyRejects

SMALL = pa.table({"id": ["a", "b", "c"], "text": ["fine", None, "bad"]})


def make_lake(folder, files=3, rows=60):
    for i in range(files):
        target = folder / f"lang={'en' if i % 2 else 'de'}" / f"part-{i}.parquet"
        target.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(lake.rows(rows, start=1000 * (i + 1), seed=i), target, row_group_size=20)
    return folder


def execute(content):
    return run.run(spec.parse(content))


def test_a_job_keeps_every_column_and_adds_its_own(tmp_path, models):
    source = make_lake(tmp_path / "in")
    tasks = lake.job(source, tmp_path / "out", models)["tasks"]
    tasks.append(
        {"task": "ner", "column": "text", "model": str(models / "ner"), "into": "entities", "dtype": "float32"}
    )
    report = execute(lake.job(source, tmp_path / "out", models, tasks=tasks))
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (180, 180, 0)
    assert (report.shards, report.shards_skipped) == (3, 0)
    assert report.padded_tokens >= report.tokens > 0
    got = lake.read(tmp_path / "out")
    assert got.schema.names == ["id", "text", "stars", "sentiment", "entities"]
    want = pa.concat_tables([lake.rows(60, start=1000 * (i + 1), seed=i) for i in range(3)])
    assert got.select(["id", "text", "stars"]).equals(want)
    texts = [text for text in want["text"].to_pylist() if text]
    reference = pipeline("text-classification", model=str(models / "sentiment"), device="cpu")(
        texts, truncation=True, max_length=64
    )
    labels = [row["label"] for row in got["sentiment"].to_pylist() if row is not None]
    assert labels == [row["label"] for row in reference]
    assert sorted(p.parent.name for p in lake.parts(tmp_path / "out")) == ["lang=de", "lang=de", "lang=en"]


def test_the_footer_says_which_weights_made_the_rows(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    execute(lake.job(source, tmp_path / "out", models))
    metadata = pq.read_schema(lake.parts(tmp_path / "out")[0]).metadata
    assert metadata[b"nightscribe.source"] == b"lang=de/part-0.parquet"
    assert metadata[b"nightscribe.tasks.0"].startswith(f"classify + {models / 'sentiment'}@".encode())


def test_a_second_run_skips_what_is_done_and_takes_what_is_new(tmp_path, models):
    source, content = make_lake(tmp_path / "in"), lake.job(tmp_path / "in", tmp_path / "out", models)
    execute(content)
    before = lake.contents(tmp_path / "out")
    again = execute(content)
    assert (again.rows_in, again.shards, again.shards_skipped) == (0, 3, 3)
    pq.write_table(lake.rows(10, start=9000), source / "lang=en" / "part-9.parquet")
    third = execute(content)
    assert (third.rows_in, third.shards, third.shards_skipped) == (10, 4, 3)
    after = lake.contents(tmp_path / "out")
    assert {name: after[name] for name in before} == before


def test_a_changed_source_file_replaces_its_rows(tmp_path, models, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_ROWS", 20)
    source, content = make_lake(tmp_path / "in", files=2), lake.job(tmp_path / "in", tmp_path / "out", models)
    assert execute(content).shards == 6
    pq.write_table(lake.rows(25, start=5000), source / "lang=en" / "part-1.parquet", row_group_size=20)
    report = execute(content)
    assert (report.shards, report.shards_skipped, report.rows_in) == (5, 3, 25)
    ids = lake.read(tmp_path / "out")["id"].to_pylist()
    assert sorted(ids) == sorted([f"r{1000 + i}" for i in range(60)] + [f"r{5000 + i}" for i in range(25)])


@pytest.mark.parametrize(("policy", "left"), [("keep", 120), ("remove", 60)])
def test_a_vanished_source_file_follows_the_stated_policy(tmp_path, models, policy, left):
    source = make_lake(tmp_path / "in", files=2)
    content = lake.job(source, {}, models) | {"sink": {"path": str(tmp_path / "out"), "on_vanished": policy}}
    execute(content)
    (source / "lang=en" / "part-1.parquet").unlink()
    execute(content)
    assert len(lake.read(tmp_path / "out")) == left


@pytest.mark.parametrize(("policy", "skipped"), [("redo", 0), ("keep", 2)])
def test_another_model_redoes_the_rows_unless_told_to_keep_them(tmp_path, models, policy, skipped):
    source = make_lake(tmp_path / "in", files=2)
    content = lake.job(source, "", models) | {"sink": {"path": str(tmp_path / "out"), "on_model_change": policy}}
    execute(content)
    content["tasks"][0]["max_tokens"] = 512
    assert execute(content).shards_skipped == 2, "a batch size changes no row"
    content["tasks"][0]["long_text"] = "window"
    assert execute(content).shards_skipped == skipped


def test_all_null_columns_have_the_same_schema_in_every_part(tmp_path, models):
    source = tmp_path / "in"
    source.mkdir()
    pq.write_table(lake.rows(5), source / "a.parquet")
    pq.write_table(
        pa.table({"id": ["x"], "text": pa.array([None], pa.string()), "stars": pa.array([None], pa.int8())}),
        source / "b.parquet",
    )
    pq.write_table(lake.rows(5).slice(0, 0), source / "c.parquet")
    execute(lake.job(source, tmp_path / "out", models))
    schemas = {pq.read_schema(part).remove_metadata().to_string() for part in lake.parts(tmp_path / "out")}
    assert len(lake.parts(tmp_path / "out")) == 3
    assert len(schemas) == 1


def test_rejected_rows_keep_their_columns_and_their_reason(tmp_path, models):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_bytes(
        b"id,text\n" + b"".join(b"%d,fine\n" % i for i in range(98)) + b"x,y,z\nq,\xff\n"
    )
    content = lake.job(tmp_path / "in", tmp_path / "out", models, errors={"max_fraction": 0.05})
    report = execute(content)
    assert (report.rows_in, report.rows_out, report.rows_rejected) == (100, 98, 2)
    got = lake.rejected(tmp_path / "out")
    assert got.schema.names == ["id", "text", "_task", "_error_type", "_message", "_raw"]
    assert sorted(got["_error_type"].to_pylist()) == ["InvalidUTF8", "RaggedLine"]
    assert set(got["_task"].to_pylist()) == {"source"}
    content["errors"]["max_fraction"] = 0.01
    with pytest.raises(TooManyRejects, match=r"2 of 100 rows were rejected, errors.max_fraction allows 0.01"):
        execute(content)


def test_a_row_that_breaks_a_task_is_rejected_with_its_input(tmp_path, models, monkeypatch):
    from transforms.tasks.classify import Classifier

    source = make_lake(tmp_path / "in", files=1)
    poison = lake.rows(60, start=1000)["text"][7].as_py()
    tokenise = Classifier.tokenise

    def fragile(self, rows):
        if any(row.text == poison for row in rows):
            raise ValueError("unhappy tokenizer")
        return tokenise(self, rows)

    monkeypatch.setattr(Classifier, "tokenise", fragile)
    report = execute(lake.job(source, tmp_path / "out", models, errors={"max_fraction": 0.1}))
    assert (report.rows_out, report.rows_rejected) == (59, 1)
    row = lake.rejected(tmp_path / "out").to_pylist()[0]
    assert row["id"] == "r1007"
    assert row["text"] == poison
    assert (row["_task"], row["_error_type"], row["_message"]) == ("classify", "ValueError", "unhappy tokenizer")
    assert "r1007" not in lake.read(tmp_path / "out")["id"].to_pylist()


def test_limit_counts_rows_after_where_and_prepare(tmp_path, models):
    source = make_lake(tmp_path / "in")
    (tmp_path / "clean_prepare.py").write_text(
        "import pyarrow.compute as pc\n"
        "def shout(batch):\n"
        "    i = batch.schema.get_field_index('text')\n"
        "    return batch.set_column(i, 'text', pc.utf8_upper(batch.column(i)))\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        where = {
            "path": str(source),
            "where": "stars = 4",
            "limit": 17,
            "prepare": "clean_prepare:shout",
            "columns": ["id", "text", "stars"],
        }
        report = execute(lake.job(where, tmp_path / "out", models))
    finally:
        sys.path.remove(str(tmp_path))
    got = lake.read(tmp_path / "out")
    assert (report.rows_in, len(got)) == (17, 17)
    assert set(got["stars"].to_pylist()) == {4}
    assert all(text == text.upper() for text in got["text"].to_pylist() if text)


def test_a_limited_run_then_a_whole_run_gives_every_row_once(tmp_path, models):
    source = make_lake(tmp_path / "in")
    execute(lake.job({"path": str(source), "limit": 70}, tmp_path / "out", models))
    assert len(lake.read(tmp_path / "out")) == 70
    execute(lake.job(source, tmp_path / "out", models))
    assert len(set(lake.read(tmp_path / "out")["id"].to_pylist())) == len(lake.read(tmp_path / "out")) == 180
    limited = lake.job({"path": str(source), "limit": 70}, tmp_path / "out", models)
    assert execute(limited).shards_skipped == 2
    limited["tasks"][0]["long_text"] = "window"
    with pytest.raises(
        SpecError, match=r"would replace 60 finished rows of .* by 10; give a limited run a sink.path of its own"
    ):
        execute(limited)
    assert len(lake.read(tmp_path / "out")) == 180


def test_several_processes_give_the_same_files_as_one(tmp_path, models):
    source = make_lake(tmp_path / "in")
    one, two = tmp_path / "one", tmp_path / "two"
    execute(lake.job(source, one, models))
    execute(lake.job(source, two, models, runner={"name": "local", "workers": 2}))
    assert lake.contents(one).keys() == lake.contents(two).keys()
    assert (
        lake.read(one)["sentiment"]
        .combine_chunks()
        .field("label")
        .equals(lake.read(two)["sentiment"].combine_chunks().field("label"))
    )


def test_a_plan_can_be_executed_in_parts_by_others(tmp_path, models):
    from jobs import enrich

    source = make_lake(tmp_path / "in")
    plan = planning.Plan.from_json(planning.make(spec.parse(lake.job(source, tmp_path / "out", models))).to_json())
    enrich.execute(plan, plan.shards[2:])
    with pytest.raises(SinkError, match=r"2 of 3 shards are not done, first 'lang=de/part-0.parquet'; run again"):
        run.finish(plan, 0.0)
    enrich.execute(plan, plan.shards[:2])
    assert run.finish(plan, 0.0).rows_out == 180


def test_a_sink_inside_its_source_is_not_read_again(tmp_path, models):
    source = make_lake(tmp_path / "in")
    content = lake.job(f"{source}/**/*.parquet", source / "enriched", models)
    execute(content)
    assert execute(content).shards_skipped == 3


def test_two_runs_at_once_into_one_sink_the_second_is_told(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    content = lake.job(source, tmp_path / "out", models)
    execute(content)
    with (
        FileLock(tmp_path / "out" / "_nightscribe" / "lock", timeout=0, thread_local=False),
        pytest.raises(SinkBusy, match=r"is being written by process \d+ on .*; wait for it or stop it"),
    ):
        execute(content)


@pytest.mark.parametrize("after_s", [0.0, 0.6, 1.5])
def test_a_killed_run_and_a_rerun_give_the_bytes_of_an_uninterrupted_one(tmp_path, models, after_s):
    source = make_lake(tmp_path / "in", files=8, rows=300)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    execute(lake.job(source, whole, models))
    file = lake.write_job(tmp_path, lake.job(source, killed, models))
    process = subprocess.Popen([sys.executable, "-m", "jobs.cli", "run", str(file), "--quiet"], stdout=subprocess.PIPE)
    while not (killed / "_nightscribe" / "plans").exists():
        time.sleep(0.02)
        assert process.poll() is None
    time.sleep(after_s)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    ledger = (
        list((killed / "_nightscribe" / "ledger").glob("*.json"))
        if (killed / "_nightscribe" / "ledger").exists()
        else []
    )
    done = {path.name: path.stat().st_mtime_ns for path in ledger}
    report = json.loads(lake.command("run", file).stdout.splitlines()[-1])
    assert report["shards_skipped"] == len(done)
    assert lake.contents(killed) == lake.contents(whole)
    assert not list((killed / "_nightscribe" / "tmp").iterdir())
    assert all((killed / "_nightscribe" / "ledger" / name).stat().st_mtime_ns == at for name, at in done.items())


def test_sigterm_stops_cleanly_and_a_rerun_goes_on(tmp_path, models):
    source = make_lake(tmp_path / "in", files=15, rows=400)
    file = lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "run", str(file), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "out").rglob("ledger/*.json")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert (
        errors.strip() == "nightscribe: the run was asked to stop; finished shards are kept, a rerun goes on from there"
    )
    report = json.loads(lake.command("run", file).stdout.splitlines()[-1])
    assert report["shards_skipped"] > 0
    assert len(lake.read(tmp_path / "out")) == 6_000


def test_models_that_do_not_fit_are_refused_before_anything_is_written(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)

    def refused(**more):
        content = lake.job(source, tmp_path / "out", models)
        content["tasks"][0] |= more
        with pytest.raises((ModelError, SpecError)) as caught:
            execute(content)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    assert (
        "tasks.0: classify needs a model with a head (…ForSequenceClassification), and this one is a BertForToken"
        in refused(model=str(models / "ner"))
    )
    assert "is not a folder; give a folder that save_pretrained wrote, or org/model" in refused(
        model=str(models / "nothing")
    )
    assert "has no config.json" in refused(model=str(source))
    assert "the Hub does not give it" in refused(model="org/nothing")
    assert "tasks.0: column 'txt' is not in the source; columns: id, text, stars, lang" in refused(column="txt")
    assert "column 'stars' is int8, and classify reads text; text columns: id, text" in refused(column="stars")
    assert "tasks.0.into is 'text', which the source already has" in refused(into="text")
    assert "has no adapter_config.json" in refused(adapter=str(models / "ner"))


@pytest.mark.parametrize("blocked", ["file", "proc"])
def test_an_output_folder_that_cannot_be_written_is_told(tmp_path, models, blocked):
    source = make_lake(tmp_path / "in", files=1)
    (tmp_path / "file").write_text("in the way")
    sink = {"file": str(tmp_path / "file" / "out"), "proc": "/proc/nightscribe"}[blocked]
    done = lake.command("run", lake.write_job(tmp_path, lake.job(source, sink, models)))
    assert done.returncode == 1
    assert done.stderr.startswith(f"nightscribe: sink.path '{sink}' cannot be written: ")
    assert "Traceback" not in done.stderr


def test_a_file_that_is_truncated_is_told_with_exit_1(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    file = source / "lang=de" / "part-0.parquet"
    file.write_bytes(file.read_bytes()[:-10])
    done = lake.command("run", lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models)))
    assert done.returncode == 1
    assert "part-0.parquet is not a readable parquet file" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_file_damaged_in_the_middle_stops_the_run_by_name(tmp_path, models):
    source = make_lake(tmp_path / "in", files=1)
    file = source / "lang=de" / "part-0.parquet"
    data = bytearray(file.read_bytes())
    data[100:900] = b"\xff" * 800
    file.write_bytes(data)
    done = lake.command("run", lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models)))
    assert done.returncode == 1
    assert "part-0.parquet could not be read as parquet" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
