"""The command: its exit codes, its last line, and no traceback for a person's mistake."""

import json
import os
import subprocess
import sys

import pyarrow.parquet as pq
import pytest

from jobs import cli
from tests import lake

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


@pytest.fixture
def job(tmp_path, models):
    (tmp_path / "in").mkdir()
    pq.write_table(lake.rows(30), tmp_path / "in" / "a.parquet")
    return lake.write_job(tmp_path, lake.job("in", "out", models))


def test_run_ends_with_the_report_as_one_line_of_json(tmp_path, job):
    done = lake.command("run", job, "source.limit=20", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    keys = "rows_in rows_out rows_rejected shards shards_skipped tokens padded_tokens seconds run_id output"
    keys += " status attempts shards_done rows_reused rows_given_up rows_removed rows_vanished rows_drawn"
    keys += " hub_requests hub_bytes store_requests dataset commit uploaded_bytes parts split batches first truncated"
    assert list(report) == keys.split()
    assert report["rows_out"] == 20
    assert report["truncated"]["sentiment"]["cut"] > 0
    assert done.stderr.startswith("sentiment: classify cut ")
    assert done.stderr.count("\n") == 1


def test_a_run_without_new_rows_says_so_on_stderr_and_prints_the_same_json(tmp_path, job, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["run", str(job)]) == 0
    first = capsys.readouterr()
    assert "Nothing was new" not in first.err
    assert cli.main(["run", str(job)]) == 0
    again = capsys.readouterr()
    assert again.err == "Nothing was new: 1 shard was done before.\n"
    assert (again.out.count("\n"), json.loads(again.out)["rows_in"]) == (1, 0)
    assert list(json.loads(again.out)) == list(json.loads(first.out))
    assert cli.main(["run", str(job), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_a_run_that_only_removes_rows_or_finds_empty_files_says_so(tmp_path, job, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    pq.write_table(lake.rows(20), tmp_path / "in" / "b.parquet")
    assert cli.main(["run", str(job)]) == 0
    (tmp_path / "in" / "b.parquet").unlink()
    capsys.readouterr()
    assert cli.main(["run", str(job), "sink.on_vanished=remove"]) == 0
    removed = "Nothing was new: 1 shard was done before; 20 rows were removed, because their files are gone.\n"
    assert capsys.readouterr().err == removed
    pq.write_table(lake.rows(0), tmp_path / "in" / "c.parquet")
    assert cli.main(["run", str(job)]) == 0
    sentence = "Nothing was new: 1 new shard without rows, 1 shard was done before.\n"
    assert capsys.readouterr().err.endswith(sentence)


def test_a_run_whose_files_are_all_empty_says_that_and_nothing_of_earlier_ones(tmp_path, job, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for file in (tmp_path / "in").iterdir():
        file.unlink()
    pq.write_table(lake.rows(0), tmp_path / "in" / "a.parquet")
    assert cli.main(["run", str(job)]) == 0
    assert capsys.readouterr().err.endswith("Nothing was new: 1 new shard without rows.\n")


def test_plan_shows_what_would_run_and_writes_nothing(tmp_path, job, models, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", str(job)]) == 0
    shown = capsys.readouterr().out
    assert "0 shards done, 1 to do" in shown
    assert f"into sentiment, {models / 'sentiment'} version " in shown
    assert not (tmp_path / "out").exists()
    assert cli.main(["plan", str(job), "--json"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert len(plan["tasks"][0]["model"]["commit"]) == 40
    assert cli.main(["run", str(job)]) == 0
    capsys.readouterr()
    assert cli.main(["plan", str(job)]) == 0
    assert "1 shard done, 0 to do" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "none.yaml"], "nightscribe: job file 'none.yaml' cannot be read: No such file or directory\n"),
        (["run", "job.yaml", "source.limt=3"], "nightscribe: job.yaml: source.limt is not a key; did you mean limit?"),
        (["run", "job.yaml", "tasks.0.column=txt"], "nightscribe: tasks.0: column 'txt' is not in the source; "),
        (["run", "job.yaml", "tasks.0.model=none/at/all"], "nightscribe: tasks.0.model 'none/at/all' is not a folder"),
        (["run", "job.yaml", "runner.name=no.such.Runner"], "nightscribe: runner.name is 'no.such.Runner'"),
        (["tasks", "clasify"], "nightscribe: task 'clasify' is not known; tasks: "),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_in_one_sentence_with_exit_2(tmp_path, job, words, expected):
    done = lake.command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(expected)
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_tasks_lists_the_options_and_the_output_of_each_task():
    out = lake.command("tasks").stdout
    assert "keys  column, aggregation, long_text, stride" in out
    assert "gives struct<label: string, score: float32>" in out


def test_usage_errors_exit_2():
    assert lake.command("fly").returncode == 2
    assert lake.command().returncode == 2
    # Overrides may be left out, so they are not among what is missing.
    assert lake.command("plan").stderr.endswith("the following arguments are required: SPEC\n")
    for words in (("plan", "job.yaml", "--whi", "source.limit=3"), ("tasks", "classify", "source.limit=3")):
        done = lake.command(*words)
        assert done.returncode == 2
        assert f"unrecognized arguments: {' '.join(words[2:])}" in done.stderr


def test_overrides_may_come_before_and_after_options(tmp_path, job, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["plan", str(job), "source.limit=5", "--json", "sink.path=elsewhere"]) == 0
    plan = json.loads(capsys.readouterr().out)["spec"]
    assert (plan["source"]["limit"], plan["sink"]["path"]) == (5, "elsewhere")
    assert cli.main(["run", str(job), "--quiet", "sink.path=elsewhere"]) == 0
    assert (tmp_path / "elsewhere").exists()
    assert not (tmp_path / "out").exists()


def test_an_unexpected_exception_is_reported_in_one_sentence_and_with_a_traceback_on_request(tmp_path, job):
    program = (
        "import sys; from jobs import cli; from jobs.plan import planning\n"
        "def against_sink(spec, only_rejected): raise ZeroDivisionError('by\\nnothing')\n"
        "planning.against_sink = against_sink; sys.exit(cli.main(['plan', 'job.yaml']))"
    )
    words = [sys.executable, "-c", program]
    told = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert told.returncode == 1
    assert told.stderr == (
        "nightscribe: `plan` failed with an unexpected ZeroDivisionError: by nothing; "
        "NIGHTSCRIBE_DEBUG=1 shows where it was raised\n"
    )
    shown = subprocess.run(
        words, cwd=tmp_path, capture_output=True, text=True, check=False, env={**os.environ, "NIGHTSCRIBE_DEBUG": "1"}
    )
    assert "Traceback" in shown.stderr
