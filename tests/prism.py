"""Prism, Beam's portable runner, and an SDK harness that runs in a virtual environment of its own.

Both are Beam's programs in Go: the runner, and the `boot` of Beam's container images, which fetches what a job ships,
installs it and starts the harness. They are built once, in one to two minutes.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import sysconfig
import time
import venv
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import psutil

from tests.go_program import GoProgram
from tests.server import free_port

BEAM = f"v{version('apache-beam')}"
PRISM = GoProgram("prism", "github.com/apache/beam/sdks/v2/go/cmd/prism", BEAM)
BOOT = GoProgram("boot", "github.com/apache/beam/sdks/v2/python/container", BEAM)
ROOT = Path(__file__).resolve().parents[1]
START_S = 60.0


@dataclass(frozen=True)
class WorkerPool:
    """A worker pool that runs.

    Attributes:
        address: host:port, for the option `environment_config`.
        process: the pool; its children are the harnesses.
        folder: its virtual environment and its log.
    """

    address: str
    process: psutil.Process
    folder: Path

    def kill(self) -> None:
        """Kill it and its harnesses, as a machine that fails."""
        for process in [*self.process.children(recursive=True), self.process]:
            with suppress(psutil.Error):
                process.kill()


def make_environment(folder: Path) -> Path:
    """A virtual environment that has the built wheel of this repository; its Python.

    The packages that the wheel needs are those of this environment, through a .pth file. .pth files there, such as
    that of an editable install, are not followed.
    """
    wheels = folder / "wheels"
    words = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(wheels)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=True, symlinks=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = wheels.glob("*.whl")
    words = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(words, check=True, capture_output=True)
    (here,) = (folder / "venv").glob("lib/python*/site-packages")
    (here / "packages.pth").write_text(sysconfig.get_path("purelib"))
    return python


@contextmanager
def worker_pool(folder: Path, python: Path) -> Iterator[WorkerPool]:
    """A worker pool for the block, as in Beam's images: `boot` starts each harness.

    Args:
        folder: for its files.
        python: of the environment that the harnesses run in.
    """
    folder.mkdir(parents=True, exist_ok=True)
    boot = folder / "boot"
    # What a job ships is unpacked below this folder, in an image below /tmp.
    boot.write_text(f'#!/bin/sh\nexec {BOOT.find()} --semi_persist_dir={folder} "$@"\n')
    boot.chmod(0o755)
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}
    environment |= {
        # In an image the harness gets an environment of its own inside of /opt.
        "RUN_PYTHON_SDK_IN_DEFAULT_ENVIRONMENT": "1",
        "PATH": f"{python.parent}{os.pathsep}{environment['PATH']}",
        "PIP_NO_INDEX": "1",
    }
    module = "apache_beam.runners.worker.worker_pool_main"
    words = [str(python), "-m", module, f"--service_port={port}", f"--container_executable={boot}"]
    with (folder / "pool.log").open("wb") as log:
        process = subprocess.Popen(words, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        pool = WorkerPool(f"localhost:{port}", psutil.Process(process.pid), folder)
        try:
            _wait_for_port(port, process, Path(log.name))
            yield pool
        finally:
            pool.kill()
            process.wait()


@contextmanager
def job_server(folder: Path) -> Iterator[str]:
    """A job server of Prism for the block; its address, for the option `job_endpoint`."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    words = [str(PRISM.find()), f"--job_port={port}", "--serve_http=false"]
    with (folder / "prism.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            _wait_for_port(port, process, Path(log.name))
            yield f"localhost:{port}"
        finally:
            process.kill()
            process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        assert process.poll() is None, f"the process has ended: {log.read_text()[-2000:]}"
        try:
            with socket.create_connection(("localhost", port), timeout=5):
                return
        except OSError:
            assert time.monotonic() < until, f"nothing listens at port {port}: {log.read_text()[-2000:]}"
            time.sleep(0.05)


if __name__ == "__main__":
    # Builds the binaries, before tests with a time limit need them.
    PRISM.tell()
    BOOT.tell()
