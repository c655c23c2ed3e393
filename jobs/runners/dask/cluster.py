"""A Dask cluster as a site for parts: each part is a future that may run on one worker only, chosen here."""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from distributed import Client, Future

from jobs.parts import worker
from jobs.runners.dask import process
from transforms.errors import RunError, SpecError

LOG = logging.getLogger(__name__)

# Seconds in which a scheduler must answer: at the start of a run, and when it is asked who its workers are.
CONNECT_S, ANSWER_S = 15.0, 10.0
# Seconds for which a scheduler that was lost is looked for, and between two tries.
PATIENCE_S, AGAIN_S = 120.0, 2.0
# Seconds without any worker after which a person should know.
LONELY_S = 60.0
# Seconds in which the process of a part that was taken away should end by itself; then it is killed.
GRACE_S = 15.0
# Seconds for which a worker that has refused a part gets no other one; twice as long each time, up to the maximum.
AVOID_S, MAX_AVOID_S = 30.0, 600.0
# Seconds between two looks at the workers of the cluster.
LOOK_S = 1.0
PREFIX = "nightscribe"


def connect(address: str, seconds: float = CONNECT_S) -> Client:
    """A client of a scheduler.

    Args:
        address: of the scheduler.
        seconds: in which it must answer.

    Raises:
        SpecError: none answers.
    """
    # What a person must know is said here, in a sentence; Dask prints tracebacks.
    for name in ("distributed", "distributed.client"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=seconds, set_as_default=False, name=PREFIX)
    except (OSError, ValueError, ImportError, RuntimeError) as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise SpecError(
            f"runner.address {address!r}: no scheduler of Dask answers there ({said[0]}); `dask scheduler` starts one "
            f"and prints its address"
        ) from error


@dataclass
class _Started:
    """A part that a worker has.

    Attributes:
        future: its end.
        worker: address of the worker.
        stopped: when it was taken away, or None.
    """

    future: Future
    worker: str
    stopped: float | None = None


class Cluster:
    """The workers of a scheduler; see `jobs.parts.site.Site`.

    Args:
        address: of the scheduler.
        sink: folder or URL of the sink, as the workers see it.
        run_id: the run.
        clock: seconds; never set back.
    """

    def __init__(self, address: str, sink: str, run_id: str, clock: Callable[[], float] = time.monotonic):
        self.address, self.sink, self.run_id, self.clock = address, sink, run_id, clock
        self.client = connect(address)
        self._execute = process.by_value(process.execute)
        self._running: dict[int, _Started] = {}
        # Parts that wait for a worker.
        self._waiting: list[int] = []
        self._ended: dict[int, str] = {}
        # Part -> address of its worker; also of those that have ended.
        self._workers: dict[int, str] = {}
        # Address of each worker -> whether other clients have tasks there.
        self._known: dict[str, bool] = {}
        self._refusals: Counter[str] = Counter()
        self._avoided: dict[str, float] = {}
        self._happened = threading.Event()
        self._lonely_since: float | None = None
        self._lost_since: float | None = None
        self._next_try = 0.0

    def workers(self) -> int:
        """How many workers could have parts now; those that have refused one, or work for others, do not count.

        Raises:
            RunError: the scheduler has not answered for PATIENCE_S.
        """
        self._look()
        ours = {part.worker for part in self._running.values()}
        return sum(worker in ours or self._is_free(worker) for worker in self._known)

    def start(self, number: int) -> None:
        """Start a part on an idle worker, now or once there is one."""
        self._waiting.append(number)
        self._place()

    def gone(self) -> Mapping[int, str]:
        """Parts whose processes have ended, or whose workers have left the cluster, since the last call."""
        self._look()
        ended, self._ended = self._ended, {}
        return ended

    def stop(self, number: int) -> None:
        """Note that a part was taken away: its process ends by itself soon, or is killed."""
        if number in self._waiting:
            self._waiting.remove(number)
        elif number in self._running and self._running[number].stopped is None:
            self._running[number].stopped = self.clock()

    def avoid(self, number: int) -> bool:
        """Give the worker of a part, which has refused it, no other one for a while; True, as this is possible."""
        refusing = self._workers.get(number)
        if refusing is None or refusing not in self._known:
            return True
        self._refusals[refusing] += 1
        seconds = min(AVOID_S * 2 ** (self._refusals[refusing] - 1), MAX_AVOID_S)
        self._avoided[refusing] = self.clock() + seconds
        return True

    def complaint(self) -> str | None:
        """That there is no worker, once that has lasted for a minute, or that the scheduler is away."""
        if self._lost_since is not None:
            return f"the scheduler of Dask at {self.address} does not answer; it is looked for {PATIENCE_S:.0f} s long"
        if self._known:
            self._lonely_since = None
            return None
        now = self.clock()
        self._lonely_since = now if self._lonely_since is None else self._lonely_since
        if now - self._lonely_since < LONELY_S:
            return None
        return (
            f"the Dask cluster at {self.address} has no worker, and the run waits for one; start workers with: "
            f"dask worker {self.address}"
        )

    def wait(self, seconds: float) -> None:
        """Wait until a part has ended or workers have come or gone, for at most so long."""
        ends, known = self.clock() + seconds, set(self._known)
        while (left := ends - self.clock()) > 0:
            if self._happened.wait(min(left, LOOK_S)):
                self._happened.clear()
                return
            self._look()
            if self._ended or set(self._known) != known:
                return

    def close(self) -> None:
        """End all processes of the run, and leave the cluster."""
        for number in [*self._waiting, *self._running]:
            self.stop(number)
        with suppress(RunError):
            while self._running and self._lost_since is None:
                self.wait(LOOK_S)
        for part in self._running.values():
            part.future.release()
        self._running.clear()
        self.client.close()

    def _look(self) -> None:
        """See who is there, what has ended, and what can begin."""
        tasks = self._tasks()
        if tasks is not None:
            own = f"{PREFIX}-{self.run_id}-"
            self._known = {name: any(not str(key).startswith(own) for key in keys) for name, keys in tasks.items()}
        now = self.clock()
        for number, part in list(self._running.items()):
            # With the connection, the client gives up its futures, and the scheduler what they stand for.
            if part.future.done():
                why = _why(part)
            elif part.worker not in self._known:
                why = f"worker {part.worker} has left the cluster"
            elif part.stopped is not None and now - part.stopped > GRACE_S:
                why = "its process did not end, and is killed"
            else:
                continue
            self._ended[number] = why
            # The worker kills the process if it is still there.
            part.future.release()
            del self._running[number]
        self._place()

    def _place(self) -> None:
        """Start the parts that wait, as far as there are idle workers."""
        if self._lost_since is not None or self.client.status != "running":
            return
        taken = {part.worker for part in self._running.values()}
        idle = [name for name in self._known if name not in taken and self._is_free(name)]
        while self._waiting and idle:
            number, name = self._waiting.pop(0), idle.pop(0)
            key = f"{PREFIX}-{self.run_id}-{number}"
            arguments = [self.sink, self.run_id, str(number)]
            future = self.client.submit(
                self._execute,
                worker.__name__,
                arguments,
                key,
                key=key,
                workers=[name],
                allow_other_workers=False,
                pure=False,
                retries=0,
            )
            self._running[number], self._workers[number] = _Started(future, name), name
            future.add_done_callback(lambda _: self._happened.set())

    def _is_free(self, name: str) -> bool:
        return not self._known[name] and self.clock() >= self._avoided.get(name, 0.0)

    def _tasks(self) -> Mapping[str, list[str]] | None:
        """The tasks of each worker; None while the scheduler cannot be reached."""
        scheduler = self.client.scheduler
        if scheduler is None or self.client.status != "running":
            self._known = {}
            self._lose(OSError("the connection was lost"))
            return None
        try:
            tasks = self.client.sync(scheduler.processing, workers=None, callback_timeout=ANSWER_S)
        except (OSError, RuntimeError) as error:
            # It may be busy: parts go on.
            self._lose(error)
            return None
        self._lost_since = None
        return tasks

    def _lose(self, error: Exception) -> None:
        """Look for a scheduler that was lost: another one may have been started at its address.

        Raises:
            RunError: for too long.
        """
        now = self.clock()
        if self._lost_since is None:
            self._lost_since = now
        if now - self._lost_since > PATIENCE_S:
            raise RunError(
                f"the scheduler of Dask at {self.address} has not answered for {PATIENCE_S:.0f} s "
                f"({error}); finished shards are kept, run again to continue"
            ) from error
        # A client looks for its scheduler itself for a while, and then closes itself.
        if self.client.status in ("closed", "closing") and now >= self._next_try:
            self._next_try = now + AGAIN_S
            with suppress(SpecError):
                self.client = connect(self.address, AGAIN_S)


def _why(part: _Started) -> str:
    """How a part has ended, for a person."""
    if part.future.status == "finished":
        code, printed = part.future.result()
        said = f": {printed}" if code and printed else ""
        return f"its process on worker {part.worker} ended with exit code {code}{said}"
    if part.future.status == "error":
        return f"Dask gave it up ({part.future.exception()})"
    return "the scheduler of Dask was lost"
