"""What a rerun does: only what is new, nothing lost, nothing twice, whatever happened to the run before."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from filelock import FileLock

from jobs.sink import open_sink
from jobs.source.formats import parquet
from jobs.spec import SinkSpec
from tests import lake
from tests.lake import execute, make_lake
from transforms.errors import SinkBusy, SpecError


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
def test_another_model_redoes_the_rows_unless_the_job_keeps_them(tmp_path, models, policy, skipped):
    source = make_lake(tmp_path / "in", files=2)
    content = lake.job(source, "", models) | {"sink": {"path": str(tmp_path / "out"), "on_model_change": policy}}
    execute(content)
    content["tasks"][0]["max_tokens"] = 512
    assert execute(content).shards_skipped == 2, "a batch size changes no row"
    content["tasks"][0]["long_text"] = "window"
    assert execute(content).shards_skipped == skipped


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
        SpecError,
        match=r"source.limit 70 would leave 10 of the 60 published rows of .*; give this run its own sink.path",
    ):
        execute(limited)
    assert len(lake.read(tmp_path / "out")) == 180


def test_the_second_of_two_simultaneous_runs_into_a_sink_is_refused(tmp_path, models):
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
    source = make_lake(tmp_path / "in", files=8, n=300)
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
    sink = open_sink(SinkSpec(path=str(killed)))
    done = sink.entries()
    # On a fast machine the last of the three kills may come after the end of the run.
    was_reported = (killed / "_nightscribe" / "reports").exists()
    report = json.loads(lake.command("run", file).stdout.splitlines()[-1])
    assert report["shards_skipped"] == len(done)
    # The report is about the night: the rows that the killed attempt finished are in it.
    if not was_reported:
        assert (report["rows_in"], report["attempts"]) == (len(lake.read(killed)), 2 if done else 1)
    assert lake.contents(killed) == lake.contents(whole)
    assert not list((killed / "_nightscribe" / "tmp").iterdir())
    assert {slot: merged(sink.entry(slot)) for slot in done} == {slot: merged(entry) for slot, entry in done.items()}


def merged(entry):
    """An entry as it is after its run: of a run killed before it merged the ledger, the next one does so."""
    assert entry is not None
    return replace(entry, findings={"rejects": entry.findings["rejects"]})


def test_sigterm_stops_cleanly_and_a_rerun_continues(tmp_path, models):
    source = make_lake(tmp_path / "in", files=15, n=400)
    file = lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models))
    process = subprocess.Popen(
        [sys.executable, "-m", "jobs.cli", "run", str(file), "--quiet"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not list((tmp_path / "out").rglob("ledger/*.jsonl")):
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 1
    assert errors.strip() == "nightscribe: the run was asked to stop; finished shards are kept, run again to continue"
    (stopped,) = (json.loads(path.read_text()) for path in (tmp_path / "out").rglob("reports/*.json"))
    assert stopped["status"] == "stopped"
    assert 0 < stopped["rows_in"] < 6_000
    again = lake.command("run", file)
    report = json.loads(again.stdout.splitlines()[-1])
    done = report["shards_skipped"]
    assert done > 0
    verb = "was" if done == 1 else "were"
    assert again.stderr.startswith(f"Continuing: {done} of 15 shards {verb} done by a run that did not finish.\n")
    assert (report["status"], report["rows_in"], report["attempts"]) == ("finished", 6_000, 2)
    assert report["seconds"] > stopped["seconds"]
    assert len(lake.read(tmp_path / "out")) == 6_000
