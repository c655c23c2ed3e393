"""Spark with Delta Lake and Iceberg, in a process and an environment of its own.

The environment and the packages for Java are installed once, into the cache, which takes some two minutes.
"""

from __future__ import annotations

import base64
import json
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from tests.go_program import CACHE

PYSPARK = "3.5.5"
# Of a version of Scala and of Spark that the release of Spark above has. The last one is for the catalog of Iceberg.
PACKAGES = (
    "io.delta:delta-spark_2.12:3.3.1",
    "org.apache.iceberg:iceberg-spark-runtime-3.5_2.12:1.9.2",
    "org.xerial:sqlite-jdbc:3.50.3.0",
)
FOLDER = CACHE / f"spark-{PYSPARK}"
INSTALL_S = 600


@dataclass(frozen=True)
class Spark:
    """A Spark that runs.

    Attributes:
        process: that answers statements.
        log: what it writes beside the answers.
    """

    process: subprocess.Popen[str]
    log: Path
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sql(self, statement: str, catalog: Path | None = None) -> list[dict[str, Any]]:
        """The rows that a statement gives.

        Args:
            statement: in SQL; a Delta table is delta.`/folder`, a Parquet file parquet.`/file`, an Iceberg table
                lake.namespace.name.
            catalog: SQLite database of the Iceberg catalog `lake`.
        """
        with self._lock:
            request = {"sql": statement, "catalog": None if catalog is None else str(catalog)}
            assert self.process.stdin is not None
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            rows, error = self._answer()
        assert error is None, f"{statement}: {error}"
        return rows

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"Spark has ended: {self.log.read_text(errors='replace')[-2000:]}"
        return pickle.loads(base64.b64decode(line))


@contextmanager
def running(folder: Path) -> Iterator[Spark]:
    """A Spark for the block; the test is skipped where it cannot be installed.

    Args:
        folder: of its log and what else it writes.
    """
    python = _python()
    log = folder / "spark.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            _words(python),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            cwd=folder,
            env=_environment(),
        )
        try:
            spark = Spark(process, log)
            spark._answer()
            yield spark
        finally:
            process.communicate()


def _python() -> Path:
    """The interpreter of the environment, installed if there is none yet; other test processes wait for that."""
    if shutil.which("java", path=_environment()["PATH"]) is None:
        pytest.skip("there is no Java, which Spark needs")
    python = FOLDER / "venv" / "bin" / "python"
    ready = FOLDER / "ready"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with FileLock(FOLDER / "lock"):
        if not ready.exists():
            _install(python)
            ready.touch()
    return python


def _install(python: Path) -> None:
    failed = FOLDER / "failed.log"
    if failed.exists() and time.time() - failed.stat().st_mtime < 3600:
        pytest.skip(f"Spark could not be installed within the last hour: {_reason(failed)}")
    log = FOLDER / "install.log"
    with log.open("wb") as output:
        for words in (
            [sys.executable, "-m", "venv", "--clear", str(python.parent.parent)],
            [str(python), "-m", "pip", "install", "--quiet", f"pyspark=={PYSPARK}"],
            # Its first start installs the packages for Java; its input ends at once.
            _words(python),
        ):
            try:
                subprocess.run(
                    words,
                    check=True,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    timeout=INSTALL_S,
                    env=_environment(),
                )
            except (subprocess.SubprocessError, OSError):
                log.rename(failed)
                pytest.skip(f"Spark could not be installed: {_reason(failed)}")


def _words(python: Path) -> list[str]:
    script = Path(__file__).with_name("spark_process.py")
    return [str(python), str(script), ",".join(PACKAGES), str(FOLDER / "ivy")]


def _environment() -> dict[str, str]:
    """Without what would let Spark run another installation of itself."""
    kept = {key: value for key, value in os.environ.items() if key not in {"SPARK_HOME", "PYTHONPATH"}}
    home = os.environ.get("JAVA_HOME")
    path = os.environ.get("PATH", os.defpath)
    return kept | {"PATH": f"{home}/bin{os.pathsep}{path}" if home else path, "TZ": "UTC"}


def _reason(log: Path) -> str:
    """The last line that names an error, or the last one."""
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors or lines or ["no output"])[-1]
