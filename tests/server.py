"""A real Prefect server on SQLite and real process workers, each in a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar
from uuid import UUID

import psutil
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.sorting import FlowRunSort
from prefect.events.worker import EventsWorker
from prefect.logging.handlers import APILogWorker
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")
# Seconds in which a server takes what this process has for it.
DRAIN_S = 60.0


class Server:
    """A server that can be stopped and started again on the same port and database."""

    def __init__(self, folder: Path, host: str = "127.0.0.1"):
        self.folder = folder
        self.host = host
        self.port = free_port()
        self.api = f"http://{host}:{self.port}/api"
        self.ui = f"http://{host}:{self.port}/v2"
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_API_URL": self.api,
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "DO_NOT_TRACK": "1",
            # A second run of a sink looks every other second whether its turn has come, and a worker for work.
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "2",
            "PREFECT_WORKER_QUERY_SECONDS": "2",
        }
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.prefect("server", "start", "--host", self.host, "--port", str(self.port))
        wait_for(self.answers, 120, "the server to start")

    def stop(self) -> None:
        if self.process is not None:
            kill_tree(self.process, signal.SIGTERM)
            self.process = None

    def answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
        try:
            with urllib.request.urlopen(f"{self.api}/health", timeout=5) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    @contextmanager
    def worker(self, *words: str, pool: str = "nightscribe") -> Iterator[subprocess.Popen[bytes]]:
        process = self.prefect("worker", "start", "--pool", pool, "--type", "process", *words)
        try:
            yield process
        finally:
            kill_tree(process, signal.SIGTERM)

    def nightscribe(self, *words: str, cwd: Path) -> str:
        """Run the command against this server; what it printed."""
        command = [sys.executable, "-m", "jobs.cli", *words]
        done = subprocess.run(
            command, env=self.environment, cwd=cwd, capture_output=True, text=True, timeout=180, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def last_run(self) -> FlowRun | None:
        with get_client(sync_client=True) as client:
            runs = client.read_flow_runs(sort=FlowRunSort.EXPECTED_START_TIME_DESC)
        return next((run for run in runs if not run.auto_scheduled), None)

    def last_run_of(self, flow: str) -> FlowRun:
        """The newest run of a flow."""
        with get_client(sync_client=True) as client:
            named = FlowFilter(name=FlowFilterName(any_=[flow]))
            return client.read_flow_runs(flow_filter=named, sort=FlowRunSort.EXPECTED_START_TIME_DESC)[0]

    def state(self, run_id: UUID) -> str:
        with get_client(sync_client=True) as client:
            return str(client.read_flow_run(run_id).state_name)

    def prefect(self, *words: str, cwd: Path | None = None, log: BinaryIO | None = None) -> subprocess.Popen[bytes]:
        with (self.folder / f"{words[0]}.log").open("ab") as own:
            return subprocess.Popen(
                [sys.executable, "-m", "prefect", *words],
                env=self.environment,
                cwd=cwd,
                stdout=log or own,
                stderr=log or own,
                start_new_session=True,
            )


@contextmanager
def running(folder: Path, host: str = "127.0.0.1") -> Iterator[Server]:
    """A server for the block, which the client of this process talks to as well."""
    server = Server(folder, host)
    server.start()
    try:
        with temporary_settings({PREFECT_API_URL: server.api, PREFECT_HOME: folder / "prefect"}):
            try:
                yield server
            finally:
                _drain()
    finally:
        server.stop()


def _drain() -> None:
    """Send the events and log lines of this process that wait, and close their connections to the server.

    Prefect keeps a connection for the whole process. Each event of a later test, which has another server, would wait
    for the one that has ended.
    """
    # In a thread of its own: where a browser has left a loop in this one, the call would return at once.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(EventsWorker.drain_all).result(DRAIN_S)
        thread.submit(APILogWorker.drain_all).result(DRAIN_S)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def tree(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        top = psutil.Process(process.pid)
        return [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def lives(process: psutil.Process) -> bool:
    """Whether a process still runs; one that has ended and that nobody has asked about does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def kill_tree(process: subprocess.Popen[bytes], number: int, patience_s: float = 30) -> None:
    """Signal a process and all below it; what is left after a while is killed."""
    found = tree(process)
    for each in found:
        send(each, number)
    _, alive = psutil.wait_procs([each for each in found if each.pid != process.pid], timeout=patience_s)
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        alive.append(psutil.Process(process.pid))
    for each in alive:
        send(each, signal.SIGKILL)
    process.wait()


def send(process: psutil.Process, number: int) -> None:
    try:
        process.send_signal(number)
    except psutil.NoSuchProcess:
        return


def wait_for(condition: Callable[[], T], timeout_s: float, what: str) -> T:
    """The first true value that a condition gives."""
    deadline = time.monotonic() + timeout_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s for {what}"
        time.sleep(0.25)
    return value


def trainers(worker: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The processes that train, below a worker."""
    found = []
    for process in tree(worker):
        try:
            if "jobs.training.child" in " ".join(process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found
