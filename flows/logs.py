"""Log records of libraries in the log of a flow run: each once, at its own level."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prefect import get_run_logger
from prefect.exceptions import CancelledRun

from transforms.errors import NightscribeError

# Lines of these need no name in front of them.
OWN = ("jobs", "transforms")

# The lowest level that is kept, by library. Beam's warnings concern only Beam itself.
LOGGERS = {
    "jobs": logging.INFO,
    "transforms": logging.INFO,
    "apache_beam": logging.ERROR,
    "transformers": logging.WARNING,
}

# Where Prefect logs how tasks and flows end.
TASKS = "prefect.task_runs"
ENGINE = (TASKS, "prefect.flow_runs")
# How Prefect's last line about a run begins; the error follows, which was logged before.
FAILED = "Finished in state Failed"
# In the traceback of a worker process that ends in a NightscribeError; this process raises that error as well.
OWN_ERROR = "transforms.errors."
# Logs the error of a DoFn again, which this process raises as well.
REPEATS = "apache_beam.runners.common"

# Gets each log line of Beam's worker processes as one text, at the line's own level.
WORKERS = "apache_beam.runners.portability.local_job_service"
WORKER_LINE = re.compile(r'message: "(?P<message>(?:\\.|[^"\\])*)".*? log_location: "(?P<file>[^"]*)')


@contextmanager
def forwarded(stopping: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Send the lines of the libraries in LOGGERS to the log of this run, from any thread.

    Of the lines about a NightscribeError the sentence that the flow logs is kept, see `shorten`.

    Args:
        stopping: whether the run was asked to stop. Beam's lines about the workers that then end are dropped.
    """
    log = get_run_logger()

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name != REPEATS and not (record.name.startswith("apache_beam") and stopping()):
                log.log(record.levelno, "%s", named(record.name, record.getMessage()))

    class ForwardWorkers(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not stopping() and (line := worker_line(record)) is not None:
                log.log(record.levelno, "%s", line)

    for name in ENGINE:
        # Never removed: Prefect logs how the flow ends after this block.
        logging.getLogger(name).addFilter(shorten)
    handlers: dict[str, logging.Handler] = {name: Forward(level) for name, level in LOGGERS.items()}
    handlers[WORKERS] = ForwardWorkers(min(LOGGERS.values()))
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in handlers}
    for name, handler in handlers.items():
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(handler.level)
        # Otherwise the root logger, which Prefect sets up too, would show each line a second time.
        logger.propagate = False
    try:
        yield
    finally:
        for name, handler in handlers.items():
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            logger.level, logger.propagate = before[name]


def named(logger: str, message: str) -> str:
    """A message with the name of its logger in front, if another library logged it."""
    return message if logger.split(".")[0] in OWN else f"{logger}: {message}"


def shorten(record: logging.LogRecord) -> bool:
    """Let a NightscribeError be read once, as the sentence that the flow logs; log a cancel at level INFO.

    Returns:
        False for the line of a task, which ends with the same error before its flow does.
    """
    error = record.exc_info[1] if record.exc_info else None
    if record.name == TASKS and isinstance(error, NightscribeError):
        return False
    if record.getMessage().startswith(FAILED):
        record.msg, record.args = FAILED, ()
    if isinstance(error, NightscribeError | CancelledRun):
        record.msg, record.args, record.exc_info = str(error), (), None
    if isinstance(error, CancelledRun) or record.getMessage().startswith("Finished in state Cancelled"):
        record.levelno, record.levelname = logging.INFO, "INFO"
    return True


def worker_line(record: logging.LogRecord) -> str | None:
    """The message of a line from a worker process, with the name of another library; None if it is not kept.

    Args:
        record: its only argument is Beam's LogEntry as text.
    """
    found = WORKER_LINE.search(str(record.args[0])) if isinstance(record.args, tuple) and record.args else None
    if found is None or OWN_ERROR in found["message"]:
        return None
    for library, level in LOGGERS.items():
        if f"/{library}/" in found["file"] and record.levelno >= level:
            # The text of a protocol buffer has quotes and line ends escaped.
            message = re.sub(r"\\(.)", lambda escaped: {"n": "\n"}.get(escaped[1], escaped[1]), found["message"])
            return message if library in OWN else f"{library} in a worker process: {message}"
    return None
