"""The process that trains, or several: started, watched, asked to end, and their error as one sentence."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jobs.execute.stop import StopToken
from jobs.training import processes
from jobs.training import request as files
from jobs.training.request import Request
from transforms.errors import ModelError, RunError, Stopped

POLL_S = 0.2

# Seconds that the child has to end after SIGTERM.
GRACE_S = 5.0

# Characters of the child's log in a message about its end.
LAST_CHARACTERS = 300

Watch = Callable[[dict[str, Any]], None]


def supervise(folder: Path, watch: Watch, stop: StopToken) -> bool:
    """Train what the folder asks for, to the end.

    Args:
        folder: with a request and its rows.
        watch: called with each line of the progress.
        stop: ends the training within seconds.

    Returns:
        Whether it has to be started again with fewer rows at once, because memory was too small.

    Raises:
        ModelError: the base does not fit the task, or refuses the settings.
        RunError: the training failed.
        Stopped: it was asked to stop.
    """
    for name in (files.ERROR, files.ENDED):
        (folder / name).unlink(missing_ok=True)
    module, environment = processes.command(Request.read(folder))
    command = [sys.executable, "-m", module, str(folder)]
    lines = _new_lines(folder / files.PROGRESS)
    with (folder / files.LOG).open("ab") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=environment)
        try:
            while child.poll() is None:
                if stop.is_set():
                    raise Stopped("the training was asked to stop; its checkpoints are kept, run again to continue")
                for line in next(lines):
                    watch(line)
                time.sleep(POLL_S)
        finally:
            _end(child)
    for line in next(lines):
        watch(line)
    if child.returncode and _memory_was_too_small(folder):
        return True
    if child.returncode:
        raise _failure(folder, child.returncode)
    return False


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _new_lines(file: Path) -> Iterator[list[dict[str, Any]]]:
    """Whole lines that were added to the file since the last look; those of an earlier process are skipped."""
    place = file.stat().st_size if file.is_file() else 0
    rest = b""
    while True:
        found = b""
        if file.is_file():
            with file.open("rb") as stream:
                stream.seek(place)
                found = stream.read()
        place += len(found)
        *whole, rest = (rest + found).split(b"\n")
        yield [json.loads(line) for line in whole if line]


def _memory_was_too_small(folder: Path) -> bool:
    error = folder / files.ERROR
    return error.is_file() and json.loads(error.read_text(encoding="utf-8"))["kind"] == "memory"


def _failure(folder: Path, code: int) -> Exception:
    if (folder / files.ERROR).is_file():
        content = json.loads((folder / files.ERROR).read_text(encoding="utf-8"))
        return (ModelError if content["kind"] == "user" else RunError)(content["message"])
    which = "the training process"
    if (folder / files.ENDED).is_file():
        ended = json.loads((folder / files.ENDED).read_text(encoding="utf-8"))
        which, code = f"process {ended['process'] + 1} of the training", ended["code"]
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    hint = " (often too little memory)" if code == -signal.SIGKILL else ""
    said = (folder / files.LOG).read_text(encoding="utf-8", errors="replace").splitlines()
    last = " | ".join(line.strip() for line in said if line.strip())[-LAST_CHARACTERS:] if said else "nothing"
    return RunError(
        f"{which} {how}{hint}; run again to continue from its last checkpoint; its log "
        f"({folder / files.LOG}) ends with: {last}"
    )
