"""A request to stop that every process of a run on this machine can see, and the signals that trigger it."""

from __future__ import annotations

import os
import signal
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from jobs.execute import worker
from transforms.errors import Stopped


@dataclass(frozen=True)
class StopToken:
    """A file whose existence asks a run to stop. It can be pickled; checking it takes two microseconds.

    Attributes:
        path: the file; None for a run that cannot be asked to stop.
    """

    path: str | None = None

    def set(self) -> None:
        """Ask the run to stop. Safe in a signal handler."""
        if self.path is not None:
            Path(self.path).touch()

    def check(self) -> None:
        """Raise if the run was asked to stop.

        Raises:
            Stopped: it was.
        """
        if self.is_set():
            raise Stopped("the run was asked to stop; run again to continue with the first unfinished shard")

    def is_set(self) -> bool:
        """Whether the run was asked to stop."""
        return self.path is not None and os.path.exists(self.path)


NEVER = StopToken()


@contextmanager
def stop_token() -> Iterator[StopToken]:
    """A token for the processes of this machine. Until it is set nothing is on the disk, so a kill leaves nothing."""
    # Nobody else on the machine can guess the name.
    path = Path(tempfile.gettempdir(), f"nightscribe-stop-{uuid.uuid4().hex}")
    try:
        yield StopToken(str(path))
    finally:
        path.unlink(missing_ok=True)


@contextmanager
def on_signals(within_s: float | None = None) -> Iterator[StopToken]:
    """Turn SIGTERM and Ctrl-C into a stop between two chunks; worker processes end with this one.

    A second signal ends the process at once, which does not lose finished shards either.

    Args:
        within_s: seconds after which this process and its child processes are killed if they have not stopped.
    """
    with stop_token() as stop:
        deadline = threading.Timer(within_s or 0, _kill_tree, (within_s or 0, stop))
        deadline.daemon = True

        def ask(number: int, frame: object) -> None:
            stop.set()
            for child in psutil.Process().children(recursive=True):
                # Only Beam's workers: the embedded Prefect server, also a child, must still record the end of the run.
                with suppress(psutil.Error):
                    if worker.__name__ in child.cmdline():
                        child.terminate()
            signal.signal(number, signal.SIG_DFL)
            if within_s is not None:
                deadline.start()

        before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield stop
        finally:
            deadline.cancel()
            for number, handler in before.items():
                signal.signal(number, handler)


def _kill_tree(within_s: float, stop: StopToken) -> None:
    """Kill the child processes, then this one: a forward pass cannot be interrupted otherwise, nor can Beam."""
    said = f"nightscribe: not stopped within {within_s:g} s, so killed; finished shards are kept, run again to continue"
    # Not by print, whose lock the thread that hangs may have.
    with suppress(OSError):
        os.write(2, f"{said}\n".encode())
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            child.kill()
    # No block ends after this that would do it.
    with suppress(OSError):
        Path(str(stop.path)).unlink(missing_ok=True)
    os.kill(os.getpid(), signal.SIGKILL)
