"""`nightscribe serve`: one command from a folder of job files to a server, a worker and a run."""

import signal
import subprocess
import sys

import psutil
import pyarrow.parquet as pq
import yaml
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tests import lake, server


def test_serve_starts_all_of_it_runs_a_job_and_leaves_no_process(tmp_path, models):
    (tmp_path / "in").mkdir()
    (tmp_path / "specs").mkdir()
    pq.write_table(lake.rows(20), tmp_path / "in" / "a.parquet")
    job = lake.job("in", "out", models) | {"name": "served", "schedule": {"cron": "15 2 * * *"}}
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
            run_id = client.create_flow_run_from_deployment(deployment.id).id
            server.wait_for(lambda: alone.state(run_id) == "Completed", 120, "the run")
        assert len(lake.read(tmp_path / "out")) == 20
        below = psutil.Process(process.pid).children(recursive=True)
        assert len(below) >= 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(90) == 0, log.read_text()[-3000:]
        assert not any(map(server.lives, below))
    finally:
        server.kill_tree(process, signal.SIGKILL)


def test_a_folder_without_job_files_is_one_sentence(tmp_path):
    environment = server.Server(tmp_path).environment
    command = [sys.executable, "-m", "jobs.cli", "deploy", "--specs", str(tmp_path / "none")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "has no job file; put one there, or name another folder with --specs" in done.stderr.splitlines()[-1]
