"""Which lines reach the log of a run, and that each does so once."""

import logging

import pytest
from apache_beam.portability.api import beam_fn_api_pb2

from flows import logs
from transforms.errors import SinkError


class Recorder(logging.Handler):
    """What would go to the server."""

    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append((record.levelname, record.getMessage()))


@pytest.fixture
def recorder(monkeypatch):
    recorder = Recorder()
    logger = logging.getLogger("test of logs")
    logger.setLevel(logging.DEBUG)
    logger.addHandler(recorder)
    monkeypatch.setattr(logs, "get_run_logger", lambda: logger)
    yield recorder
    logger.removeHandler(recorder)


def test_each_line_is_logged_once_and_from_the_level_of_its_library(recorder):
    with logs.forwarded():
        for name in ("jobs.run", "transforms.model", "apache_beam.runners.worker", "transformers.modeling_utils"):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
                logging.getLogger(name).log(level, "a line")
    assert recorder.lines == [
        *((level, "a line") for _ in ("jobs.run", "transforms.model") for level in ("INFO", "WARNING", "ERROR")),
        ("ERROR", "apache_beam.runners.worker: a line"),
        ("WARNING", "transformers.modeling_utils: a line"),
        ("ERROR", "transformers.modeling_utils: a line"),
    ]
    logging.getLogger("jobs.run").error("after the run")
    assert len(recorder.lines) == 9


def entry(location, message='it says "nö"'):
    """A line as Beam's log service of worker processes writes it."""
    made = beam_fn_api_pb2.LogEntry(severity=beam_fn_api_pb2.LogEntry.Severity.WARN, message=message, thread="Thread-7")
    made.timestamp.seconds = 1
    made.log_location = location
    return str(made).replace("\n", " ")


def test_a_line_of_a_worker_process_keeps_its_level_and_names_another_library(recorder):
    service = logging.getLogger(logs.WORKERS)
    with logs.forwarded():
        service.warning("Worker: %s", entry("/lib/python3.11/site-packages/transformers/modeling_utils.py:12"))
        service.warning("Worker: %s", entry("/lib/python3.11/site-packages/apache_beam/runners/worker/sdk_worker.py:9"))
        service.info("Worker: %s", entry("/srv/jobs/enrich.py:1"))
        service.info("Worker: %s", entry("/srv/other/thing.py:1"))
    assert recorder.lines == [
        ("WARNING", 'transformers in a worker process: it says "nö"'),
        ("INFO", 'it says "nö"'),
    ]


def test_an_error_of_nightscribe_is_logged_once_as_one_sentence(recorder):
    traceback = "Traceback (most recent call last):\n  File x\ntransforms.errors.SinkError: the disk is full"
    worker = entry("/lib/site-packages/apache_beam/runners/worker/sdk_worker.py:9", traceback)
    with logs.forwarded():
        logging.getLogger(logs.WORKERS).error("Worker: %s", worker)
        logging.getLogger("apache_beam.runners.common").error("the disk is full [while running 'Execute']")
    assert recorder.lines == []
    error = SinkError("the disk is full")
    about = {"msg": f"Task run failed with {error!r}", "levelno": logging.ERROR}
    record = logging.makeLogRecord(about | {"exc_info": (SinkError, error, None)})
    assert logs.shorten(record)
    assert (record.getMessage(), record.exc_info) == ("the disk is full", None)
    # A task ends with the error before its flow does, and the last line of both repeats it.
    assert not logs.shorten(logging.makeLogRecord(about | {"name": logs.TASKS, "exc_info": (SinkError, error, None)}))
    record = logging.makeLogRecord({"msg": "Finished in state Failed('the disk is full, by 100%')"})
    assert logs.shorten(record)
    assert record.getMessage() == "Finished in state Failed"


def test_errors_that_beam_logs_while_its_workers_stop_are_dropped(recorder):
    with logs.forwarded(stopping=lambda: True):
        logging.getLogger("apache_beam.runners.worker.data_plane").error("Failed to read inputs in the data plane.")
        logging.getLogger("jobs.run").info("a line of ours")
    assert recorder.lines == [("INFO", "a line of ours")]


def test_a_cancelled_task_is_logged_at_level_info():
    record = logging.makeLogRecord({"msg": "Finished in state Cancelled('asked to stop')", "levelno": logging.ERROR})
    assert logs.shorten(record)
    assert (record.levelno, record.levelname) == (logging.INFO, "INFO")
