"""A program in Go that tests start: found in PATH or in the cache, or built there, once for each version."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
import unittest
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

# Read at once, because tests change the variable.
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nightscribe-tests"


@dataclass(frozen=True)
class GoProgram:
    """A program that `go install` builds.

    Attributes:
        name: what it is called in the cache and in messages.
        package: its Go package; the last part of it is the name of the built file.
        version: version of the module.
        in_path: whether one in PATH will do, whatever its version.
    """

    name: str
    package: str
    version: str
    in_path: bool = False

    def find(self) -> Path:
        """The binary; parallel test processes wait for the one that builds it. Skips the test if there is none."""
        if self.in_path and (found := shutil.which(self.name)) is not None:
            return Path(found)
        folder = CACHE / f"{self.name}-{self.version}"
        binary = folder / self.name
        if not binary.exists():
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not binary.exists():
                    self._build(folder)
        return binary

    def tell(self) -> None:
        """Print where the binary is, built if needed, or why there is none."""
        try:
            print(f"{self.name}: {self.find()}")
        except unittest.SkipTest as reason:
            print(f"{self.name}: {reason}")

    def _build(self, folder: Path) -> None:
        if (go := shutil.which("go")) is None:
            where = "in PATH" if self.in_path else "in the cache of the tests"
            raise unittest.SkipTest(f"there is no {self.name} {where}, and no Go to build it with")
        failed = folder / "failed.log"
        if failed.exists() and time.time() - failed.stat().st_mtime < 3600:
            raise unittest.SkipTest(f"{self.name} could not be built within the last hour: {_last_line(failed)}")
        # Built beside the final name, so that a killed build leaves no half of a binary.
        building = folder / "building"
        words = [go, "install", f"{self.package}@{self.version}"]
        environment = os.environ | {"GOBIN": str(building), "CGO_ENABLED": "0"}
        log = folder / "build.log"
        with log.open("wb") as output:
            done = subprocess.run(words, env=environment, stdout=output, stderr=output, check=False)
        if done.returncode != 0:
            log.rename(failed)
            raise unittest.SkipTest(f"{self.name} could not be built: {_last_line(failed)}")
        (building / self.package.rsplit("/", 1)[-1]).rename(folder / self.name)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").split("\n")
    return next((line for line in reversed(lines) if line.strip()), "no output")
