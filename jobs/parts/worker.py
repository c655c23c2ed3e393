"""A worker executes one part: shard by shard, and says what it does.

`python -m jobs.parts.worker SINK RUN NUMBER [PARENT NAME]` executes a part in a process of its own, which ends with the
process PARENT and calls itself NAME.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jobs.execute import code, cores
from jobs.execute.progress import Heartbeat, Progress
from jobs.execute.shard import execute_shard
from jobs.execute.stop import NEVER, StopToken, stop_token
from jobs.execute.worker import end_with
from jobs.models import calibration
from jobs.models.pool import ModelPool
from jobs.parts import PATIENCE_S, Done, Part, Run, State, check, part_file, run_file, state_file
from jobs.plan import Plan, planning
from jobs.reuse.rows import OlderRows
from jobs.sink import open_sink
from jobs.source import Shard
from jobs.store import Store, explain, fencing
from transforms import garbage
from transforms.errors import NightscribeError, SinkBusy, Stopped, Unexpected, UnfitWorker

# Seconds between two beats: a local sink, one on an object store.
BEAT_S, REMOTE_BEAT_S = 2.0, 5.0


def execute_part(sink: str, run_id: str, number: int, name: str = "", stop: StopToken = NEVER) -> State:
    """Execute a part of a run.

    Args:
        sink: folder or URL of the sink.
        run_id: the run.
        number: the part.
        name: of the worker; by default the machine and the process.
        stop: asks it to stop.

    Returns:
        What it has done. An error of a shard is in there, and in the file that the coordinator reads.

    Raises:
        UnfitWorker: the sink cannot be seen from here.
        SinkBusy: the run has ended, or another one has taken the sink over.
        SinkError: it cannot be written.
    """
    store = Store(sink)
    run, part = _read(store, run_id, number)
    says = Says(store, run_id, State(number, name or f"{socket.gethostname()}/{os.getpid()}", time.time(), done=[]))
    try:
        with says.until_end(stop) as stopped:
            check.check_versions(run.versions)
            plan = Plan.from_json(run.plan)
            fencing.follow(store, plan.lease)
            if store.fence is not None:
                store.fence.secure()
            with _folder(run.folder, plan):
                check.check_source(part.shards)
                _execute(plan, store, part, says, stopped)
    except OSError as error:
        raise explain(error, store.url) from error
    return says.state


class Says:
    """What a worker says, written every few seconds from a thread, which also looks whether its shards are still its.

    Args:
        store: the sink's, without a fence: an old worker may say what it did.
        run_id: the run.
        state: what it says.
    """

    def __init__(self, store: Store, run_id: str, state: State):
        self.store, self.run_id, self.state = Store(store.url), run_id, state
        self.lock = threading.Lock()
        self.is_over = False

    def begin(self, shard: Shard) -> bool:
        """Note that a shard begins; returns whether it still belongs to the part."""
        if shard.slot not in self._own():
            return False
        self.state.current = shard.slot
        self.write()
        return True

    def finish(self, done: Done) -> None:
        """Note that a shard is done."""
        with self.lock:
            assert self.state.done is not None
            self.state.done.append(done)
            self.state.current = None

    def write(self) -> None:
        """Write what there is to say, unless the files of the run are deleted."""
        with self.lock:
            if self.is_over:
                return
            self.state.beat += 1
            self.store.put(state_file(self.run_id, self.state.number), self.state.to_json())

    @contextmanager
    def until_end(self, stop: StopToken) -> Iterator[StopToken]:
        """Say that the worker lives while the block runs, and at last how it ended; errors of the block end there.

        Yields a token that is set when `stop` is, or when the shard that it is doing belongs to another part.
        """
        ended = threading.Event()
        with stop_token() as own:
            self.write()
            thread = threading.Thread(target=self._beat, args=(ended, stop, own), name="beat", daemon=True)
            thread.start()
            try:
                yield own
                end, error = "done", None
            except Exception as caught:
                error = caught if isinstance(caught, NightscribeError) else Unexpected.from_(caught, "a part")
                end = "refused" if isinstance(error, UnfitWorker) else "failed"
                if isinstance(error, Stopped | SinkBusy):
                    end = "stopped"
            finally:
                ended.set()
                thread.join()
            with self.lock:
                self.state.end, self.state.ended = end, time.time()
                if error is not None:
                    self.state.error, self.state.message = type(error).__name__, str(error)
            # A sink that cannot be written is why it ended, or the coordinator finds that out too.
            with suppress(OSError, NightscribeError):
                self.is_over = self.is_over or not self.store.exists(part_file(self.run_id, self.state.number))
                self.write()

    def _own(self) -> set[str]:
        try:
            content = self.store.get(part_file(self.run_id, self.state.number))
        except FileNotFoundError as error:
            # Nothing must be written there any more.
            self.is_over = True
            raise _ended(self.run_id, self.state.number) from error
        return {shard.slot for shard in Part.from_json(content).shards}

    def _beat(self, ended: threading.Event, stop: StopToken, own: StopToken) -> None:
        every_s = BEAT_S if self.store.local else REMOTE_BEAT_S
        failing_since: float | None = None
        while not ended.wait(every_s):
            if stop.is_set():
                own.set()
            try:
                if self.state.current not in {None, *self._own()}:
                    own.set()
                self.write()
                failing_since = None
            except SinkBusy:
                own.set()
            except (OSError, NightscribeError):
                # The store may answer again; if it does not, nothing that is computed here can be staged.
                failing_since = failing_since or time.monotonic()
                if time.monotonic() - failing_since > PATIENCE_S:
                    own.set()


def _execute(plan: Plan, store: Store, part: Part, says: Says, stop: StopToken) -> None:
    sink = open_sink(plan.spec.sink, store)
    plan = planning.on_this_machine(plan)
    code.check(plan)
    models = ModelPool()
    plan, _ = calibration.settle(plan, part.shards, models, stop)
    if plan.threads is not None:
        cores.share(1, plan.threads)
    older = OlderRows(plan, sink, stop)
    heartbeat = Heartbeat(store, plan.run_id)
    computed = False

    def watch(progress: Progress) -> None:
        nonlocal computed
        computed = computed or progress.shards > 0
        heartbeat.add(progress)

    try:
        for shard in part.shards:
            stop.check()
            if not says.begin(shard):
                continue
            computed, began, since = False, time.time(), fencing.clock()
            entry = execute_shard(plan, shard, models, sink, stop, watch, older)
            # The clock of the machine may be set meanwhile.
            ended = began + fencing.clock() - since
            says.finish(Done(shard.slot, began, ended, entry.rows_in, entry.tokens, computed))
        heartbeat.write()
    except OSError as error:
        raise explain(error, store.url) from error
    finally:
        older.close()
        models.clear()


def _read(store: Store, run_id: str, number: int) -> tuple[Run, Part]:
    try:
        return Run.from_json(store.get(run_file(run_id))), Part.from_json(store.get(part_file(run_id, number)))
    except FileNotFoundError as error:
        if store.names("_nightscribe"):
            raise _ended(run_id, number) from error
        raise UnfitWorker(
            f"worker {socket.gethostname()} does not see the sink {store.url!r}; mount the lake at the same path on "
            f"every machine, or give it the same credentials"
        ) from error


def _ended(run_id: str, number: int) -> SinkBusy:
    """The complaint of a worker that finds the files of its part deleted."""
    return SinkBusy(f"run {run_id} has ended, so that part {number} of it is not needed any more")


@contextmanager
def _folder(folder: str, plan: Plan) -> Iterator[None]:
    """Work in the folder of the coordinator, in which relative paths and modules of the job start."""
    check.check_folder(folder, _relative(plan))
    if not os.path.isdir(folder):
        yield
        return
    before = os.getcwd()
    os.chdir(folder)
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)
        os.chdir(before)


def _relative(plan: Plan) -> list[str]:
    spec = plan.spec
    paths = [spec.source.path] if isinstance(spec.source.path, str) else list(spec.source.path or ())
    folders = [pin.name for task in plan.tasks for pin in task.pins if pin.local]
    functions = [spec.source.prepare] if spec.source.prepare else []
    return functions + [path for path in (*paths, *folders) if "://" not in path and not Path(path).is_absolute()]


def main() -> int:
    """Execute the part that the arguments name."""
    from jobs.execute import stop

    garbage.seldom()
    sink, run_id, number, parent, name = [*sys.argv[1:], "", ""][:5]
    if parent:
        threading.Thread(target=end_with, args=(int(parent),), daemon=True).start()
    with stop.on_signals() as stopped:
        try:
            state = execute_part(sink, run_id, int(number), name, stopped)
        except NightscribeError as error:
            print(error, file=sys.stderr)
            return 1
    if state.message:
        print(state.message, file=sys.stderr)
    return int(state.end != "done")


if __name__ == "__main__":
    sys.exit(main())
