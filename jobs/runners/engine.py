"""The engine that runs a Beam pipeline: this process, its worker processes, or a cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.runners.portability.job_server import JobServer
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineResult, PipelineRunner, create_runner

from jobs.execute.stop import StopToken
from jobs.runners import processes
from jobs.runners.processes import Processes
from jobs.spec import RunnerSpec
from transforms.errors import RunError, SpecError

LOG = logging.getLogger(__name__)

# How soon a cluster is told of a stop. Its workers do not see the file that asks for one.
STOP_S = 0.5
# How long a thread of Beam has to notice that its job server is gone.
READER_S = 5.0
# What runners say of workers that cannot say anything themselves.
FAILURES = {
    "No module named 'jobs'": "the workers have no nightscribe; install the same version there, or use an image that "
    "has it",
    "SDK worker disconnected": "a worker has ended before its shards were finished: it was killed, or ran out of "
    "memory; finished shards are kept, run again to continue",
    "didn't get control connection": "the worker pool was asked for a worker, and none has connected within a minute; "
    "its log says why; finished shards are kept, run again to continue",
}


def create(spec: RunnerSpec) -> PipelineRunner:
    """The Beam runner of that name; `local` is the FnApiRunner itself, since DirectRunner may choose another engine.

    Raises:
        SpecError: Beam has no such runner, or a package that it needs is not installed.
    """
    if spec.name == "local":
        return FnApiRunner()
    try:
        return create_runner(spec.name)
    except (ImportError, ValueError, AttributeError, TypeError) as error:
        # TypeError: the name is that of a module or function, not of a runner class.
        raise SpecError(f"runner.name is {spec.name!r}: {error}; local works everywhere") from error


@dataclass
class _Server(JobServer):
    """A job server that Beam starts on this machine, without Beam's wrapper of it.

    The wrapper takes the handler of Ctrl-C, which is ours, and which only the main thread may set; a pipeline does not
    run there.
    """

    server: Any
    is_started: bool = False

    def start(self) -> Any:
        stub = self.server.start()
        self.is_started = True
        return stub

    def stop(self) -> None:
        if self.is_started:
            self.server.stop()


@contextmanager
def running(spec: RunnerSpec, own: Sequence[Mapping[str, str]] = ()) -> Iterator[PipelineRunner]:
    """A runner for the block; processes and a job server that it starts on this machine end with the block.

    Args:
        spec: the section `runner`.
        own: environment variables of each worker process of the local runner, beside those of this one.

    Raises:
        RunError: a worker process of this machine was lost in the block.
    """
    if spec.name == "local" and spec.workers not in ("auto", 1) and "direct_running_mode" not in spec.options:
        lost = Processes(own or [{}] * int(spec.workers))
        with processes.environment(lost) as environment:
            try:
                yield FnApiRunner(environment)
            except Exception:
                lost.check()
                raise
        return
    runner = create(spec)
    if not isinstance(runner, PortableRunner):
        yield runner
        return
    make: Callable[[PipelineOptions], Any] = runner.default_job_server
    servers: list[_Server] = []

    def default_job_server(options: PipelineOptions) -> JobServer:
        server = make(options)
        servers.append(_Server(getattr(server, "_job_server", server)))
        return servers[-1]

    # Beam has no other place for a job server of one's own; this runner alone gets it.
    runner.default_job_server = default_job_server  # type: ignore[method-assign]
    try:
        with processes.without_broken_streams():
            yield runner
    finally:
        for server in servers:
            server.stop()


def wait(result: PipelineResult, stop: StopToken) -> None:
    """Wait for a pipeline to end; a run that is asked to stop cancels it.

    Raises:
        RunError: the workers lack nightscribe, or one of them is gone.
        Exception: what else made the pipeline fail.
    """
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(STOP_S):
            if stop.is_set():
                try:
                    result.cancel()
                except Exception as error:
                    # Ctrl-C in a terminal reaches a job server of this machine too, which then is gone already.
                    LOG.warning("the pipeline could not be cancelled: %s", error)
                return

    thread = threading.Thread(target=watch, name="stop", daemon=True)
    thread.start()
    try:
        result.wait_until_finish()
    except Exception as error:
        for said, meaning in FAILURES.items():
            if said in str(error) and not stop.is_set():
                raise RunError(meaning) from error
        raise
    finally:
        ended.set()
        thread.join()
        for reader in threading.enumerate():
            # Beam's own thread fails a moment later if the job server is gone; see `without_broken_streams`.
            if reader.name == "wait_until_finish_read":
                reader.join(READER_S)
