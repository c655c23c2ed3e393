"""`nightscribe serve`: one command from a folder of job files to a server, a worker and a run, and out again."""

import signal
import subprocess
import sys

import psutil
import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from jobs import cli, run, spec
from tests import lake, server

# As long as there is a file called `slow` in the working directory, a source file takes 0.4 s.
SLOW = """
import os
import time


def prepare(batch):
    if os.path.exists("slow"):
        time.sleep(0.4)
    return batch
"""


def test_serve_starts_every_process_and_stops_them_in_the_middle_of_a_run(tmp_path, models, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "in").mkdir()
    (tmp_path / "specs").mkdir()
    for i in range(40):
        pq.write_table(lake.rows(20, start=1000 * i), tmp_path / "in" / f"{i:02}.parquet")
    (tmp_path / "slowly.py").write_text(SLOW)
    (tmp_path / "slow").touch()
    job = lake.job({"path": "in", "prepare": "slowly:prepare"}, "out", models) | {
        "name": "served",
        "schedule": {"cron": "15 2 * * *"},
    }
    (tmp_path / "specs" / "served.yaml").write_text(yaml.safe_dump(job))
    alone = server.Server(tmp_path)
    environment = {key: value for key, value in alone.environment.items() if key != "PREFECT_API_URL"}
    command = [sys.executable, "-m", "jobs.cli", "serve", "--specs", "specs", "--port", str(alone.port)]
    log = tmp_path / "serve.log"
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=stream, stderr=stream)
    try:
        server.wait_for(
            lambda: "ready: http" in log.read_text() or process.poll() is not None, 180, "serve to be ready"
        )
        assert process.poll() is None, log.read_text()
        with temporary_settings({PREFECT_API_URL: alone.api}), get_client(sync_client=True) as client:
            deployment = client.read_deployment_by_name("enrich/served")
            client.create_flow_run_from_deployment(deployment.id)
            server.wait_for(lambda: list((tmp_path / "out").rglob("ledger/*.jsonl")), 120, "the first shard")
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) >= 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0, log.read_text()[-3000:]
        assert not any(map(server.lives, below))
        (tmp_path / "slow").unlink()
        report = run.run(spec.read("specs/served.yaml"))
        assert 0 < report.shards_skipped < 40
        assert len(lake.read(tmp_path / "out")) == 800
    finally:
        server.kill_tree(process, signal.SIGKILL)


@pytest.mark.parametrize("command", ["serve", "deploy"])
def test_a_folder_without_job_files_is_reported_in_one_sentence_before_any_server_is_started(tmp_path, command):
    environment = {key: value for key, value in server.Server(tmp_path).environment.items() if key != "PREFECT_API_URL"}
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "is not a folder"), ("empty", "has no job file")):
        words = [sys.executable, "-m", "jobs.cli", command, "--specs", str(tmp_path / name)]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 2
        expected = f"{what}; put a job file there, or name another folder with --specs"
        assert done.stderr == f"nightscribe: {str(tmp_path / name)!r} {expected}\n"
        assert done.stdout == ""


@pytest.mark.usefixtures("settings_of_the_process")
def test_a_prefect_file_that_cannot_be_written_is_reported(tmp_path, models, capsys):
    lake.write_job(tmp_path, lake.job("in", "out", models))
    file = tmp_path / "none" / "prefect.yaml"
    assert cli.main(["deploy", "--specs", str(tmp_path), "--prefect-file", str(file)]) == 2
    assert capsys.readouterr().err == (
        f"nightscribe: --prefect-file {str(file)!r} cannot be written: No such file or directory\n"
    )


@pytest.mark.usefixtures("settings_of_the_process")
def test_a_limit_of_no_runs_is_refused_by_serve(tmp_path, capsys):
    (tmp_path / "job.yaml").touch()
    assert cli.main(["serve", "--specs", str(tmp_path), "--limit", "0"]) == 2
    assert "--limit is 0; give 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize(
    "address", ["http://127.0.0.1:{port}/api", "http://no-such-host.invalid/api", "127.0.0.1:4200"]
)
def test_a_server_that_does_not_answer_is_reported_in_one_sentence(tmp_path, models, address):
    alone = server.Server(tmp_path)
    lake.write_job(tmp_path, lake.job("in", "out", models))
    url = address.format(port=alone.port)
    command = [sys.executable, "-m", "jobs.cli", "deploy", "--specs", str(tmp_path)]
    environment = alone.environment | {"PREFECT_API_URL": url}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    (sentence,) = done.stderr.strip().splitlines()
    assert sentence.startswith(f"nightscribe: the Prefect server at {url!r} does not answer (")
    assert "set PREFECT_API_URL to the address of one that runs" in sentence
