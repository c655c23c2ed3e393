"""The worker processes of the local runner: started by Beam, watched here, and ended together.

Beam's own handler waits for ever for the result of a worker process that was killed, and its threads print tracebacks.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import grpc
from apache_beam.portability.api import beam_fn_api_pb2_grpc, endpoints_pb2
from apache_beam.runners.portability.fn_api_runner.worker_handlers import GrpcWorkerHandler, WorkerHandler
from apache_beam.runners.portability.local_job_service import BeamFnLoggingServicer
from apache_beam.transforms.environments import SubprocessSDKEnvironment
from apache_beam.utils import thread_pool_executor
from google.protobuf import json_format, text_format

from jobs.execute import worker
from transforms.errors import RunError

# Beam's client pings more often than gRPC's servers allow by default: after some minutes they would close the stream.
ANY_PINGS = [("grpc.http2.max_pings_without_data", 0), ("grpc.http2.max_ping_strikes", 0)]
# Time between two looks at a run that has lost a process, whose other requests have to fail too.
AGAIN_S = 0.2


class Processes:
    """The worker processes of one run.

    Attributes:
        environments: variables of each process beside those of this one, by the number of the process.
        started: the handler of each process.
        lost: what happened to the first process that ended before its work was done, as a sentence; None while all run.
    """

    def __init__(self, environments: Sequence[Mapping[str, str]]):
        self.environments = environments
        self.started: list[_Handler] = []
        self.lost: str | None = None
        self.lock = threading.Lock()

    def lose(self, pid: int, code: int) -> None:
        """A process ended before its work was done: end the others, for which the run would wait otherwise."""
        with self.lock:
            if self.lost is not None:
                return
            self.lost = sentence(pid, code, len(self.environments))
        for handler in self.started:
            handler.process.kill()

    def check(self) -> None:
        """Raise if a process was lost.

        Raises:
            RunError: what happened to it.
        """
        if self.lost is not None:
            raise RunError(self.lost)


def sentence(pid: int, code: int, workers: int) -> str:
    """What a person should know about a worker process that ended too early.

    Args:
        pid: the process.
        code: its exit code; a signal that killed it as a negative number.
        workers: worker processes of the run.
    """
    kept = "finished shards are kept, run again to continue"
    if code >= 0:
        return f"worker process {pid} ended with exit code {code} before its work was done; {kept}"
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = "unknown"
    killed = f"worker process {pid} was killed by signal {-code} ({name})"
    if -code != signal.SIGKILL:
        return f"{killed}; {kept}"
    return (
        f"{killed}, as the system does when memory runs out; {kept}, with runner.workers below {workers} if memory is "
        f"too small for {workers} copies of the models"
    )


@contextmanager
def environment(processes: Processes) -> Iterator[SubprocessSDKEnvironment]:
    """The Beam environment in which a pipeline runs in these processes."""
    # Beam makes the handlers by this name; they belong to one run.
    urn = f"nightscribe:processes:{uuid.uuid4().hex}"

    def handler(_: bytes, state: Any, provision_info: Any, server: Any) -> _Handler:
        return _Handler(state, provision_info, server, processes)

    class Environment(SubprocessSDKEnvironment):
        def to_runner_api_parameter(self, context: Any) -> tuple[str, bytes]:
            return urn, b""

    WorkerHandler.register_environment(urn, bytes)(handler)
    try:
        with without_broken_streams():
            yield Environment.from_command_string("")
    finally:
        WorkerHandler._registered_environments.pop(urn)


@contextmanager
def without_broken_streams() -> Iterator[None]:
    """Keep the tracebacks of Beam's threads whose process is gone from the terminal, for the block."""
    shown = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if not isinstance(arguments.exc_value, grpc.RpcError):
            shown(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = shown


class _Handler(GrpcWorkerHandler):
    """What Beam knows of one process."""

    def __init__(self, state: Any, provision_info: Any, server: Any, processes: Processes):
        super().__init__(state, provision_info, server)
        self.processes = processes
        self.closing = threading.Event()

    def start_worker(self) -> None:
        """Start the process, and watch it."""
        self.logs = grpc.server(thread_pool_executor.shared_unbounded_instance(), options=ANY_PINGS)
        port = self.logs.add_insecure_port("localhost:0")
        beam_fn_api_pb2_grpc.add_BeamFnLoggingServicer_to_server(BeamFnLoggingServicer(), self.logs)
        self.logs.start()
        own = self.processes.environments[len(self.processes.started) % len(self.processes.environments)]
        told = {
            "CONTROL_API_SERVICE_DESCRIPTOR": _address(self.control_address),
            "LOGGING_API_SERVICE_DESCRIPTOR": _address(f"localhost:{port}"),
            "PIPELINE_OPTIONS": json_format.MessageToJson(self.provision_info.provision_info.pipeline_options),
            "WORKER_ID": self.worker_id,
        }
        self.process = subprocess.Popen([sys.executable, "-m", worker.__name__], env={**os.environ, **own, **told})
        self.processes.started.append(self)
        self.thread = threading.Thread(name="worker process", target=self._watch, daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Let the process end, and wait for that."""
        self.closing.set()
        if self.processes.lost is None:
            super().close()
            return
        self.control_conn.close()
        self._close_data()
        self.stop_worker()

    def stop_worker(self) -> None:
        """Wait for the end of the process."""
        self.thread.join()
        self.logs.stop(0)

    def _watch(self) -> None:
        code = self.process.wait()
        if self.closing.is_set():
            return
        self.processes.lose(self.process.pid, code)
        # Ends what waits for results; the rest ends what waits for an answer, and Beam may ask again meanwhile.
        self._close_data()
        while not self.closing.wait(AGAIN_S):
            # A new request may change what this looks through.
            with suppress(RuntimeError):
                self.control_conn.abort(RuntimeError(str(self.processes.lost)))

    def _close_data(self) -> None:
        # It raises if it has noticed that the process is gone, and ends what waits in that case too.
        with suppress(grpc.RpcError):
            self.data_conn.close()


def _address(url: str) -> str:
    return text_format.MessageToString(endpoints_pb2.ApiServiceDescriptor(url=url))
