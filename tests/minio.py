"""A MinIO server on this machine, for tests of what an object store really does.

Its binary is looked for in PATH and in the cache, then built with Go, which takes some five minutes, once.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import unittest
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

# The last release of the open source server; a build is kept for each version.
VERSION = "v0.0.0-20260212201848-7aac2a2c5b7c"
# Read at once, because tests change the variable.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nightscribe-tests"
USER, PASSWORD, REGION = "nightscribe-root", "nightscribe-root-password", "us-east-1"
START_S = 60.0


@dataclass(frozen=True)
class Minio:
    """A server that runs.

    Attributes:
        address: http://host:port.
        folder: where it keeps its objects.
    """

    address: str
    folder: Path

    def client(self, service: str = "s3") -> Any:
        """A botocore client of its owner; service `sts` gives credentials that may do less."""
        import botocore.session

        return botocore.session.get_session().create_client(
            service,
            endpoint_url=self.address,
            aws_access_key_id=USER,
            aws_secret_access_key=PASSWORD,
            region_name=REGION,
        )

    def make_bucket(self, name: str) -> str:
        """A new bucket; its URL."""
        self.client().create_bucket(Bucket=name)
        return f"s3://{name}"


@contextmanager
def running(folder: Path) -> Iterator[Minio]:
    """A server for the block that keeps its objects in a folder; the test is skipped where there is no binary."""
    binary = _binary()
    port = _free_port()
    address = f"127.0.0.1:{port}"
    environment = os.environ | {"MINIO_ROOT_USER": USER, "MINIO_ROOT_PASSWORD": PASSWORD, "MINIO_UPDATE": "off"}
    words = [str(binary), "server", "--quiet", "--address", address, "--console-address", "127.0.0.1:0"]
    with (folder.parent / f"{folder.name}.log").open("wb") as log:
        process = subprocess.Popen([*words, str(folder)], env=environment, stdout=log, stderr=log)
        try:
            _wait(process, f"http://{address}", Path(log.name))
            yield Minio(f"http://{address}", folder)
        finally:
            process.terminate()
            process.wait()


def _binary() -> Path:
    """The binary, built if there is none yet; parallel test processes wait for the one that builds it."""
    if (found := shutil.which("minio")) is not None:
        return Path(found)
    folder = CACHE / f"minio-{VERSION}"
    binary = folder / "minio"
    if not binary.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock"):
            if not binary.exists():
                _build(folder)
    return binary


def _build(folder: Path) -> None:
    if (go := shutil.which("go")) is None:
        raise unittest.SkipTest("there is no minio in PATH, and no Go to build it with")
    failed = folder / "failed.log"
    if failed.exists() and time.time() - failed.stat().st_mtime < 3600:
        raise unittest.SkipTest(f"minio could not be built within the last hour: {_last_line(failed)}")
    # Built beside the final name, so that a killed build leaves no half of a binary.
    building = folder / "building"
    words = [go, "install", f"github.com/minio/minio@{VERSION}"]
    environment = os.environ | {"GOBIN": str(building), "CGO_ENABLED": "0"}
    log = folder / "build.log"
    with log.open("wb") as output:
        done = subprocess.run(words, env=environment, stdout=output, stderr=output, check=False)
    if done.returncode != 0:
        log.rename(failed)
        raise unittest.SkipTest(f"minio could not be built: {_last_line(failed)}")
    (building / "minio").rename(folder / "minio")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no output")


def _wait(process: subprocess.Popen[bytes], address: str, log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        assert process.poll() is None, f"minio has ended: {log.read_text()[-2000:]}"
        try:
            with urllib.request.urlopen(f"{address}/minio/health/ready", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            assert time.monotonic() < until, f"minio does not start: {log.read_text()[-2000:]}"
            time.sleep(0.05)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    # Builds the binary, before tests with a time limit need it.
    try:
        print(f"minio: {_binary()}")
    except unittest.SkipTest as reason:
        print(f"minio: {reason}")
