"""A MinIO server on this machine, for tests of what an object store really does.

Its binary is looked for in PATH and in the cache, then built with Go, which takes some five minutes, once.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.go_program import GoProgram

# The last release of the open source server.
MINIO = GoProgram("minio", "github.com/minio/minio", "v0.0.0-20260212201848-7aac2a2c5b7c", in_path=True)
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
def running(folder: Path, host: str = "127.0.0.1") -> Iterator[Minio]:
    """A server for the block that keeps its objects in a folder; the test is skipped where there is no binary."""
    binary = MINIO.find()
    port = _free_port(host)
    address = f"{host}:{port}"
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


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    # Builds the binary, before tests with a time limit need it.
    MINIO.tell()
