"""A Dask scheduler and workers for tests: processes of this machine, or of hosts that can be cut off."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from distributed import Client

from tests.hosts import Host
from tests.server import wait_for

# A lost connection is noticed in 12 s and not in 30; Dask takes nothing below 11.
QUICK = {"DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "12s", "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "4s"}


@dataclass
class DaskCluster:
    """What runs.

    Attributes:
        address: of the scheduler.
        folder: where the processes work and log.
        scheduler: its process.
        workers: their processes, by name.
    """

    address: str
    folder: Path
    scheduler: subprocess.Popen[bytes] | None = None
    workers: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start_scheduler(self) -> None:
        host, port = self.address.removeprefix("tcp://").split(":")
        words = ["distributed.cli.dask_scheduler", "--host", host, "--port", port, "--no-dashboard"]
        self.scheduler = self._start("scheduler", words, {}, None)

    def start_worker(
        self,
        name: str,
        host: Host | None = None,
        environment: Mapping[str, str] | None = None,
        options: tuple[str, ...] = ("--no-nanny",),
        first: tuple[str, ...] = (),
    ) -> None:
        """Start a worker; it joins seconds later. `first` is a command that its host runs before."""
        words = ["distributed.cli.dask_worker", self.address, "--name", name, "--nthreads", "1", "--no-dashboard"]
        if host is not None:
            words += ["--host", host.address]
        self.workers[name] = self._start(name, [*words, *options], environment or {}, host, first)

    def wait_for_workers(self, count: int) -> None:
        """Wait until as many have joined."""
        if not count:
            return
        with Client(self.address, timeout=30, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def kill(self, name: str) -> None:
        """SIGKILL to the worker alone; the process of its part must notice that by itself."""
        self.workers[name].send_signal(signal.SIGKILL)
        self.workers[name].wait(30)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def close(self) -> None:
        for each in [*self.workers.values(), *([self.scheduler] if self.scheduler else [])]:
            each.kill()
            each.wait(30)

    def _start(
        self,
        name: str,
        words: list[str],
        environment: Mapping[str, str],
        host: Host | None,
        first: tuple[str, ...] = (),
    ) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", *words]
        if first:
            command = ["sh", "-c", f'{shlex.join(first)} && exec "$@"', "sh", *command]
        path = os.pathsep.join(each for each in sys.path if each)
        variables = {**os.environ, "PYTHONPATH": path, **QUICK, **environment}
        with open(self.folder / f"{name}.log", "ab") as log:
            if host is not None:
                return host.start(command, variables, self.folder, log)
            return subprocess.Popen(command, env=variables, cwd=self.folder, stdout=log, stderr=log)


@contextmanager
def running(folder: Path, workers: int, host: str = "127.0.0.1") -> Iterator[DaskCluster]:
    """A scheduler and some workers named worker-1 and so on, for the block.

    Args:
        folder: for their logs.
        workers: how many, on this machine.
        host: address of this machine at which the scheduler listens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind((host, 0))
        port = free.getsockname()[1]
    cluster = DaskCluster(f"tcp://{host}:{port}", folder)
    try:
        cluster.start_scheduler()
        for number in range(1, workers + 1):
            cluster.start_worker(f"worker-{number}")
        wait_for(lambda: "Scheduler at:" in cluster.log("scheduler"), 60, "the scheduler")
        cluster.wait_for_workers(workers)
        yield cluster
    finally:
        cluster.close()
