"""The error of a worker as this process raises it."""

import pytest

from jobs.execute import worker_error
from jobs.execute.stop import NEVER, StopToken
from transforms.errors import RunError, SourceError, Stopped, Unexpected

LAST_LINE = "Traceback:\n  line 3\n"


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (SourceError("a.csv ends too early [while running 'Enrich']"), SourceError, "a.csv ends too early"),
        (RuntimeError(f"{LAST_LINE}transforms.errors.SourceError: a.csv: gone\n"), SourceError, "a.csv: gone"),
        (RuntimeError(f"{LAST_LINE}transforms.errors.NoSuchError: 7"), Unexpected, "transforms.errors.NoSuchError: 7"),
        (RuntimeError(f"{LAST_LINE}other.SourceError: 7\n\n"), Unexpected, "other.SourceError: 7"),
        (ValueError(), Unexpected, "ValueError"),
    ],
)
def test_the_error_of_a_worker_is_found_in_what_the_runner_raises(error, kind, message):
    found = worker_error.received(error, NEVER)
    assert type(found) is kind
    assert message in str(found)
    assert "while running" not in str(found)


def test_after_a_stop_every_error_is_the_stop(tmp_path):
    stop = StopToken(str(tmp_path / "stop"))
    stop.set()
    assert isinstance(worker_error.received(ValueError("the pipe is closed"), stop), Stopped)


def test_only_names_of_our_errors_are_errors():
    assert isinstance(worker_error.named("RunError", "7 rows"), RunError)
    assert worker_error.named("annotations", "7 rows") is None
    assert worker_error.named("", "7 rows") is None
