"""What a Dask worker does for a part: it starts a process, waits for it, and kills it when the part is taken away.

`by_value` sends these functions as they are here, so that neither the scheduler nor the workers' own processes import
Nightscribe: only the processes that are started do. Therefore this module imports nothing but the standard library.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import IO, Any, TypeVar

Function = TypeVar("Function", bound=Callable[..., Coroutine[Any, Any, Any]])

# Seconds between two looks at a process, and at whether the part is still wanted.
LOOK_S = 0.2
# Variables with the number of threads of torch and of its libraries.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
# Seconds for the process that tells its versions.
VERSIONS_S = 60.0


def by_value(function: Function) -> Function:
    """A function of this module that is sent as code, and not as the name of something to import.

    Dask's scheduler unpickles what it passes on: by name, it would need Nightscribe too.
    """
    import cloudpickle

    module = sys.modules[__name__]
    cloudpickle.register_pickle_by_value(module)
    try:
        # The copy is not what its name stands for, so that everyone who pickles it again does so by value.
        return cloudpickle.loads(cloudpickle.dumps(function))
    finally:
        cloudpickle.unregister_pickle_by_value(module)


async def execute(module: str, arguments: list[str], key: str) -> tuple[int, str]:
    """Execute a module in a process, with the threads of this worker.

    A coroutine, because the event loop of the worker then stays free to answer the scheduler, and because Dask ends
    coroutines with their worker, which it cannot do with threads.

    Args:
        module: name of the module.
        arguments: of its command line; the process that it ends with and the name of this worker are added.
        key: of the task, which Dask marks if nobody wants its result any more.

    Returns:
        The exit code, and the last line that the process has printed on stderr.
    """
    from distributed import get_worker

    worker = get_worker()
    # Dask's nannies set these to 1 for every worker, so that what is inherited says nothing.
    threads = dict.fromkeys(THREADS, str(worker.state.nthreads))
    command = [sys.executable, "-m", module, *arguments, str(os.getpid()), str(worker.name)]
    process = subprocess.Popen(command, env={**os.environ, **threads}, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    assert process.stderr is not None
    last: deque[str] = deque(maxlen=1)
    copy = threading.Thread(target=_copy, args=(process.stderr, last), daemon=True)
    copy.start()

    def is_wanted() -> bool:
        task = worker.state.tasks.get(key)
        return task is not None and task.state in ("executing", "long-running")

    code = await _wait(process, is_wanted)
    # A grandchild may hold the stream open.
    copy.join(timeout=1)
    return code, last[0] if last else ""


async def versions() -> tuple[int, str]:
    """Ask a process for the versions that parts would have on this worker.

    Returns:
        The exit code, and what it has printed: JSON, or why it failed.
    """
    command = [sys.executable, "-m", "jobs.parts.check"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        ends = asyncio.get_running_loop().time() + VERSIONS_S
        # It prints less than a pipe holds.
        code = await _wait(process, lambda: asyncio.get_running_loop().time() < ends)
        assert process.stdout is not None
        lines = process.stdout.read().strip().splitlines()
    return code, lines[-1] if lines else ""


async def _wait(process: subprocess.Popen[Any], is_wanted: Callable[[], bool]) -> int:
    try:
        while (code := process.poll()) is None:
            if not is_wanted():
                process.kill()
            await asyncio.sleep(LOOK_S)
        return code
    finally:
        # The worker ends.
        if process.returncode is None:
            process.kill()


def _copy(stream: IO[bytes], last: deque[str]) -> None:
    """Pass on what a process prints to the log of the worker."""
    for line in stream:
        text = line.decode(errors="replace").rstrip()
        # What a progress bar draws over itself is no reason for an end.
        if text and "\r" not in text:
            last.append(text)
        print(text, file=sys.stderr, flush=True)
