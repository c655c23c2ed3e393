"""`nightscribe serve` and `nightscribe deploy`: put the job and training files of a folder on a Prefect server."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flows import folder, server
from flows.server import PORT
from transforms.errors import RunError, SpecError

START_S = 180
STOP_S = 60


def register(commands: Any) -> None:
    """Add the commands to the `nightscribe` parser; Prefect is imported only when one is called."""
    serve_parser = commands.add_parser(
        "serve", help="run a folder of job files and training files every night, with a UI", description=serve.__doc__
    )
    deploy_parser = commands.add_parser(
        "deploy", help="put a folder of job files and training files on a Prefect server", description=deploy.__doc__
    )
    for parser in (serve_parser, deploy_parser):
        parser.add_argument(
            "--specs",
            type=Path,
            default=Path("deploy/specs"),
            help="folder of job files and training files (default deploy/specs)",
        )
        parser.add_argument("--pool", default="nightscribe", help="work pool of the workers (default nightscribe)")
    serve_parser.add_argument(
        "--port", type=int, default=PORT, help=f"port of the server that is started (default {PORT})"
    )
    serve_parser.add_argument("--limit", type=int, help="maximum number of runs at a time; by default no limit")
    deploy_parser.add_argument("--prefect-file", type=Path, help="only write this file, for `prefect deploy`")
    serve_parser.set_defaults(call=serve)
    deploy_parser.set_defaults(call=deploy)


def serve(arguments: argparse.Namespace) -> int:
    """Deploy every job file and training file under a folder and run what is due, until stopped.

    Uses the Prefect server of PREFECT_API_URL; if that is not set, starts one on this machine, with SQLite.
    """
    # Found before a server is started, which takes many seconds.
    folder.files(arguments.specs)
    if arguments.limit is not None and arguments.limit < 1:
        raise SpecError(f"--limit is {arguments.limit}; give 1 or more, or leave it out for no limit")
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    with _server(arguments.port) as ui:
        # In a separate process, because its imports take half a gigabyte, and this process runs for months.
        deploying = ["jobs.cli", "deploy", "--specs", str(arguments.specs), "--pool", arguments.pool]
        if code := subprocess.run([sys.executable, "-m", *deploying], check=False).returncode:
            return code
        limit = ["--limit", str(arguments.limit)] if arguments.limit is not None else []
        with _prefect("worker", "start", "--pool", arguments.pool, "--type", "process", *limit) as worker:
            print(f"ready: {ui}", flush=True)
            while not stopped.wait(1):
                if worker.poll() is not None:
                    raise RunError(
                        f"the worker ended with exit code {worker.returncode}; its last lines above give the reason"
                    )
    return 0


def deploy(arguments: argparse.Namespace) -> int:
    """Deploy every job file and training file under a folder to the Prefect server of PREFECT_API_URL.

    A second time changes nothing.
    """
    if arguments.prefect_file is not None:
        from flows import files, project

        content = project.project(files.read_all(arguments.specs), arguments.pool)
        try:
            arguments.prefect_file.write_text(content, encoding="utf-8")
        except OSError as error:
            path = str(arguments.prefect_file)
            raise SpecError(f"--prefect-file {path!r} cannot be written: {error.strerror}") from error
        print(arguments.prefect_file)
        return 0
    # First check the folder, then the server, because the imports that follow take seconds.
    folder.files(arguments.specs)
    if not (url := server.configured()):
        raise SpecError("no Prefect server is set; set PREFECT_API_URL, or start a server with `nightscribe serve`")
    if why := server.silent(url):
        raise RunError(server.no_answer(url, why))
    import httpx

    from flows import deployments

    try:
        deployed = deployments.deploy(arguments.specs, arguments.pool)
    except httpx.TransportError as error:
        raise RunError(server.no_answer(url, str(error) or type(error).__name__)) from error
    for name, what in deployed.items():
        print(f"{what:<10} {name}" if " " not in what else f"{name} {what}", flush=True)
    return 0


@contextmanager
def _server(port: int) -> Iterator[str]:
    """The address of the UI: that of the server that is set, or of a server that runs as long as the block."""
    if url := server.configured():
        yield url.removesuffix("/api")
        return
    os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
    os.environ.setdefault("DO_NOT_TRACK", "1")
    url = os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"
    with _prefect("server", "start", "--host", "127.0.0.1", "--port", str(port)) as process:
        deadline = time.monotonic() + START_S
        while server.silent(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise RunError(f"the Prefect server did not start on port {port}; choose a free one with --port")
            time.sleep(0.5)
        yield url.removesuffix("/api")


@contextmanager
def _prefect(*words: str) -> Iterator[subprocess.Popen[bytes]]:
    """A `prefect` command that runs as long as the block; in its own session, so that only this process gets Ctrl-C."""
    process = subprocess.Popen([sys.executable, "-m", "prefect", *words], start_new_session=True)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
