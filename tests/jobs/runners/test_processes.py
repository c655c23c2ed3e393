"""Worker processes of the local runner that end too early: one sentence at once, nothing left, the rerun completes."""

import json
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from jobs.execute import worker
from jobs.runners.processes import sentence
from tests import lake

# Passes the first rows, and then waits for a file: a run that does not notice a lost process never ends.
TASK = '''"""Waiting."""

import time
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from transforms.contract import Annotation
from transforms.options import column_field

ARCHITECTURE, VERSION = None, 1


@dataclass(frozen=True)
class Options:
    column: str = column_field("text column")


def check(options, config):
    """Nothing to refuse."""


def output_type(options, config):
    return pa.string()


def load(options, model, max_tokens=None):
    batches = []

    def wait(batch):
        batches.append(len(batch))
        while len(batches) > 1 and not Path("go").exists():
            time.sleep(0.01)
        return Annotation(batch[options.column])

    return wait
'''


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job of eight shards for two worker processes, which pass one shard each and wait in the next."""
    (tmp_path / "waiting.py").write_text(TASK)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    task = {"task": "waiting", "column": "text", "into": "same"}
    source = lake.make_lake(tmp_path / "in", files=8, n=20)
    return lake.write_job(
        tmp_path,
        {
            "name": "waits",
            "source": {"path": str(source)},
            "tasks": [task],
            "sink": {"path": str(tmp_path / "out")},
            "runner": {"workers": 2},
        },
    )


def started(job):
    """The run of a job, and its two worker processes, once each has finished a shard."""
    command = [sys.executable, "-m", "jobs.cli", "run", "--quiet", str(job)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert until(lambda: run.poll() is not None or len(staged(job)) == 2)
    assert run.poll() is None, run.communicate()[1]
    workers = [child for child in psutil.Process(run.pid).children() if worker.__name__ in child.cmdline()]
    assert len(workers) == 2
    return run, workers


def staged(job):
    return [line for file in (job.parent / "out").rglob("ledger/*.jsonl") for line in file.read_text().splitlines()]


def until(condition, within_s=60):
    """Whether a condition became true."""
    ends = time.monotonic() + within_s
    while not (met := condition()) and time.monotonic() < ends:
        time.sleep(0.02)
    return met


def is_gone(process):
    """Whether a process has ended; a container's first process may not collect it."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def rerun(job):
    """The report of another run, which need not wait."""
    (job.parent / "go").touch()
    return json.loads(lake.command("run", job).stdout.splitlines()[-1])


@pytest.mark.parametrize("number", [0, 1])
def test_a_killed_worker_process_ends_the_run_with_one_sentence_and_a_rerun_completes_it(job, number):
    run, workers = started(job)
    workers[number].kill()
    _, errors = run.communicate(timeout=20)
    assert run.returncode == 1
    assert errors.strip() == f"nightscribe: {sentence(workers[number].pid, -signal.SIGKILL, 2)}"
    assert until(lambda: all(map(is_gone, workers)))
    report = rerun(job)
    assert (report["status"], report["shards"], report["shards_skipped"], report["attempts"]) == ("finished", 8, 2, 2)
    rows = lake.read(job.parent / "out")["id"].to_pylist()
    assert len(rows) == len(set(rows)) == 160


def test_sigterm_ends_a_run_of_two_worker_processes(job):
    run, workers = started(job)
    run.send_signal(signal.SIGTERM)
    _, errors = run.communicate(timeout=20)
    assert errors.strip() == "nightscribe: the run was asked to stop; finished shards are kept, run again to continue"
    assert until(lambda: all(map(is_gone, workers)))


def test_worker_processes_end_when_the_run_is_killed(job):
    run, workers = started(job)
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    assert until(lambda: all(map(is_gone, workers)))


def test_the_sentence_names_the_signal_or_the_exit_code():
    assert sentence(7, -9, 4).startswith("worker process 7 was killed by signal 9 (SIGKILL), as the system does when")
    assert "runner.workers below 4" in sentence(7, -9, 4)
    assert sentence(7, -11, 4).startswith(
        "worker process 7 was killed by signal 11 (SIGSEGV); finished shards are kept"
    )
    assert sentence(7, 3, 4).startswith("worker process 7 ended with exit code 3 before its work was done; finished")
