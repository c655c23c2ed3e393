"""The lines of our libraries in the log of a flow run: each once, at the level it was written with."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_run_logger

# From which level a library's lines are worth keeping for every night. Beam's warnings are about Beam.
LOGGERS = {
    "jobs": logging.INFO,
    "transforms": logging.INFO,
    "apache_beam": logging.ERROR,
    "transformers": logging.WARNING,
}


@contextmanager
def forwarded() -> Iterator[None]:
    """Send the lines of our libraries to the log of this run, from whichever thread they come."""
    log = get_run_logger()

    class Forward(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            log.log(record.levelno, "%s: %s", record.name, record.getMessage())

    handlers = {name: Forward(level) for name, level in LOGGERS.items()}
    before = {name: (logging.getLogger(name).level, logging.getLogger(name).propagate) for name in LOGGERS}
    for name, handler in handlers.items():
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(LOGGERS[name])
        # Else the root logger, which Prefect sets up too, shows each line a second time.
        logger.propagate = False
    try:
        yield
    finally:
        for name, handler in handlers.items():
            logger = logging.getLogger(name)
            logger.removeHandler(handler)
            logger.level, logger.propagate = before[name]
