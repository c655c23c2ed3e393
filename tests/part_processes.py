"""A site for parts on this machine: a process for each part, of which tests can kill, stop and count some."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field

# So that a test of a few seconds is not one of waiting.
LONGEST_WAIT_S = 0.3


@dataclass
class Processes:
    """Starts `python -m jobs.parts.worker`.

    Attributes:
        sink: URL of the sink.
        run_id: the run.
        count: how many workers there are.
        environment: more variables of the workers.
    """

    sink: str
    run_id: str
    count: int
    environment: dict[str, str] = field(default_factory=dict)
    running: dict[int, subprocess.Popen] = field(default_factory=dict)
    started: list[int] = field(default_factory=list)

    def workers(self) -> int:
        return self.count

    def start(self, number: int) -> None:
        command = [sys.executable, "-m", "jobs.parts.worker", self.sink, self.run_id, str(number)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"} | self.environment
        self.running[number] = subprocess.Popen(command, env=environment)
        self.started.append(number)

    def gone(self) -> dict[int, str]:
        ended = {number: each.returncode for number, each in self.running.items() if each.poll() is not None}
        for number in ended:
            del self.running[number]
        return {number: f"its process ended with exit code {code}" for number, code in ended.items()}

    def stop(self, number: int) -> None:
        if number in self.running:
            self.running[number].terminate()

    def kill(self, number: int) -> None:
        os.kill(self.running[number].pid, signal.SIGKILL)

    def avoid(self, number: int) -> bool:
        return False

    def complaint(self) -> str | None:
        return None

    def wait(self, seconds: float) -> None:
        time.sleep(min(seconds, LONGEST_WAIT_S))

    def close(self) -> None:
        for each in self.running.values():
            each.kill()
            each.wait()
