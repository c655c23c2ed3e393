"""Clocks of processes that are set to another time while they run."""

from __future__ import annotations

import os
from pathlib import Path

# Python imports it at the start of each process.
HOOK = '''
import os, time

true, file = time.time, os.environ["SHIFT_FILE"]


def time_of_this_process():
    """Ahead of the true time in every other process, behind it in the others."""
    with open(file) as stream:
        shift_s = float(stream.read() or 0)
    return true() + (shift_s if os.getpid() % 2 else -shift_s)


time.time = time_of_this_process
'''


class Clock:
    """The clocks of all processes that are started with an environment.

    Args:
        folder: an empty one, for the hook.

    Attributes:
        environment: variables of the processes.
    """

    def __init__(self, folder: Path):
        folder.mkdir(parents=True)
        (folder / "sitecustomize.py").write_text(HOOK)
        self.file = folder / "shift"
        self.environment = {"PYTHONPATH": str(folder), "SHIFT_FILE": str(self.file)}
        self.set(0)

    def set(self, seconds: float) -> None:
        """Let half of the clocks jump forwards by so many seconds from the true time, and the others backwards."""
        new = self.file.with_suffix(".new")
        new.write_text(str(seconds))
        os.replace(new, self.file)
