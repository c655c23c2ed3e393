"""The runner `dask` on a real scheduler: the rows of a local run, whatever happens to workers and network."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from jobs import run, runners
from jobs.parts import timeline
from jobs.runners.dask import cluster as clusters
from jobs.store import Store, names
from tests import dask_cluster, hosts, lake
from tests.server import wait_for
from tests.waiting_job import FILES, ROWS, leftovers, local_contents, waiting_job
from transforms.errors import RunError, SpecError

ROOT = Path(__file__).parents[4]


def dask_job(folder, cluster, milliseconds=5.0, **more):
    return waiting_job(folder, milliseconds, runner={"name": "dask", "address": cluster.address} | more)


@contextmanager
def started(job):
    """Run a job in a thread; yields a function that waits for its report."""
    found = {}

    def work():
        try:
            found["report"] = run.run(job)
        except Exception as error:
            found["error"] = error

    def result(timeout=120):
        thread.join(timeout)
        assert not thread.is_alive()
        if "error" in found:
            raise found["error"]
        return found["report"]

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield result
    finally:
        thread.join(120)


def states(folder):
    """What the workers of the run have said."""
    files = (folder / "out" / names.PARTS).glob("*/*.state.json")
    found = []
    for file in files:
        try:
            found.append(json.loads(file.read_text()))
        except FileNotFoundError:
            continue
    return found


def busy(folder):
    """Names of the workers that are doing a shard now."""
    return {state["worker"] for state in states(folder) if state["current"] and not state["end"]}


def processes_of_parts(process):
    """The processes that a worker has started."""
    return [each for each in psutil.Process(process.pid).children() if "jobs.parts.worker" in each.cmdline()]


def test_a_killed_worker_and_one_that_joins_late(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "jobs")
    with dask_cluster.running(tmp_path / "cluster", 2) as cluster:
        job = dask_job(tmp_path, cluster, 80, parts=4)
        with started(job) as result:
            wait_for(lambda: "worker-1" in busy(tmp_path), 90, "a shard on the first worker")
            orphan, *_ = processes_of_parts(cluster.workers["worker-1"])
            cluster.kill("worker-1")
            cluster.start_worker("worker-3")
            wait_for(lambda: not orphan.is_running(), 30, "the end of the process of the killed worker")
            wait_for(lambda: "worker-3" in busy(tmp_path), 90, "a shard on the worker that joined")
            report = result()
        assert report.rows_in == report.rows_out == FILES * ROWS
        assert "has left the cluster" in caplog.text
        assert lake.contents(tmp_path / "out") == local_contents(tmp_path, job)
        assert leftovers(tmp_path) == []


def other_code(folder):
    """A copy of the code of the workers in which one comment differs."""
    for room in ("jobs", "transforms"):
        shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
    with open(folder / "jobs" / "run.py", "a") as file:
        file.write("# Another version.\n")
    return os.pathsep.join([str(folder), *filter(None, sys.path)])


def test_workers_of_another_version_and_without_nightscribe_get_no_parts(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "jobs")
    (tmp_path / "none" / "jobs").mkdir(parents=True)
    (tmp_path / "none" / "jobs" / "__init__.py").touch()
    with dask_cluster.running(tmp_path / "cluster", 0) as cluster:
        cluster.start_worker("other", environment={"PYTHONPATH": other_code(tmp_path / "code")})
        cluster.start_worker("none", environment={"PYTHONPATH": str(tmp_path / "none")})
        cluster.wait_for_workers(2)
        with pytest.raises(SpecError, match="none of the 2 workers of the cluster can execute parts of this job"):
            run.prepare(dask_job(tmp_path, cluster))
        assert not (tmp_path / "out").exists()
        cluster.start_worker("good")
        cluster.wait_for_workers(3)
        job = dask_job(tmp_path, cluster, parts=3)
        report = run.run(job)
        assert report.rows_out == FILES * ROWS
        assert "has other versions than the run was planned with: nightscribe 0.1.0 (" in caplog.text
        assert "No module named 'jobs.parts'" in caplog.text
        assert lake.contents(tmp_path / "out") == local_contents(tmp_path, job)
        assert leftovers(tmp_path) == []


def test_a_scheduler_that_does_not_answer_is_refused_in_seconds(tmp_path, monkeypatch):
    monkeypatch.setattr(clusters, "CONNECT_S", 2.0)
    monkeypatch.setattr(clusters.connect, "__defaults__", (2.0,))
    job = waiting_job(tmp_path, runner={"name": "dask", "address": "tcp://127.0.0.1:9"})
    with pytest.raises(SpecError, match=r"runner.address 'tcp://127.0.0.1:9': no scheduler of Dask answers there"):
        run.prepare(job)
    job = waiting_job(tmp_path, runner={"name": "dask", "address": "smtp://here"})
    with pytest.raises(SpecError, match=r"runner.address 'smtp://here': no scheduler of Dask answers there"):
        run.prepare(job)


def test_without_distributed_the_command_that_installs_it_is_named(monkeypatch):
    for name in [name for name in sys.modules if name.partition(".")[0] == "distributed"]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.startswith("jobs.runners.dask")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delattr(runners, "dask", raising=False)
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(SpecError, match=r"runner.name 'dask' needs distributed; pip install 'nightscribe\[dask\]'"):
        runners.find("dask")


def test_a_cluster_without_workers_is_waited_for_and_a_lost_scheduler_ends_the_run(tmp_path, caplog, monkeypatch):
    caplog.set_level(logging.WARNING, "jobs")
    monkeypatch.setattr(clusters, "LONELY_S", 1.0)
    monkeypatch.setattr(clusters, "PATIENCE_S", 3.0)
    with dask_cluster.running(tmp_path / "cluster", 0) as cluster, started(dask_job(tmp_path, cluster)) as result:
        said = f"has no worker, and the run waits for one; start workers with: dask worker {cluster.address}"
        wait_for(lambda: said in caplog.text, 60, "the complaint")
        cluster.scheduler.send_signal(signal.SIGKILL)
        with pytest.raises(RunError, match=r"has not answered for 3 s .*finished shards are kept"):
            result()


@pytest.mark.long
def test_hosts_that_are_cut_off_killed_or_do_not_see_the_lake(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "jobs")
    with hosts.network(4) as network, dask_cluster.running(tmp_path / "cluster", 0, network.address) as cluster:
        for number, host in enumerate(network.hosts[:3], 1):
            cluster.start_worker(f"worker-{number}", host)
        job = dask_job(tmp_path, cluster, 150, parts=8)
        empty = ("mount", "-t", "tmpfs", "none", str(tmp_path / "lake"))
        cluster.start_worker("blind", network.hosts[3], first=empty)
        cluster.wait_for_workers(4)
        with started(job) as result:
            wait_for(lambda: {"worker-1", "worker-2"} <= busy(tmp_path), 90, "shards on two hosts")
            network.hosts[0].cut()
            network.hosts[1].kill()
            report = result(240)
        assert report.rows_in == report.rows_out == FILES * ROWS
        assert "has left the cluster" in caplog.text
        assert "does not see the source" in caplog.text
        # Of the killed host and of the one without the lake. The one that is cut off from the scheduler still sees the
        # sink, and may finish its part first.
        assert caplog.text.count("is handed out again") >= 2
        assert lake.contents(tmp_path / "out") == local_contents(tmp_path, job)
        assert leftovers(tmp_path) == []


@pytest.mark.long
def test_a_scheduler_that_is_started_again(tmp_path, caplog):
    caplog.set_level(logging.WARNING, "jobs")
    with dask_cluster.running(tmp_path / "cluster", 2) as cluster:
        job = dask_job(tmp_path, cluster, 100, parts=4)
        with started(job) as result:
            wait_for(lambda: busy(tmp_path), 90, "a shard")
            cluster.scheduler.send_signal(signal.SIGKILL)
            wait_for(lambda: "does not answer; it is looked for" in caplog.text, 60, "the complaint")
            cluster.start_scheduler()
            cluster.start_worker("worker-3")
            report = result(240)
        assert report.rows_out == FILES * ROWS
        assert lake.contents(tmp_path / "out") == local_contents(tmp_path, job)
        assert leftovers(tmp_path) == []


@pytest.mark.long
def test_the_faster_worker_does_more(tmp_path):
    with dask_cluster.running(tmp_path / "cluster", 1) as cluster:
        cluster.start_worker("slow", environment={"TESTS_WAIT_TIMES": "5"})
        cluster.wait_for_workers(2)
        lake.make_lake(tmp_path / "lake", 12, ROWS)
        report = run.run(dask_job(tmp_path, cluster, 50, parts=12))
        assert report.rows_out == 12 * ROWS
        shards = timeline.read(Store(str(tmp_path / "out")), report.run_id).numbers().shards
        assert shards["worker-1"] > shards["slow"] > 0
