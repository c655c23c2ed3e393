"""A run that is asked to stop by a signal."""

import os
import signal
import subprocess
import sys

import pytest

from jobs.execute import stop

PROGRAM = """
import os, signal, time
from jobs.execute import stop

with stop.on_signals(within_s=0.5):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""
KILLED = """
import os, signal
from jobs.execute import stop

with stop.on_signals():
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_process_that_does_not_stop_in_time_says_so_before_it_is_killed():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert ran.returncode == -signal.SIGKILL
    assert ran.stderr == (
        "nightscribe: not stopped within 0.5 s, so killed; finished shards are kept, run again to continue\n"
    )


@pytest.mark.parametrize("program", [PROGRAM, KILLED])
def test_a_process_that_is_killed_leaves_nothing_in_the_temporary_folder(tmp_path, program):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, timeout=60, check=False)
    assert ran.returncode == -signal.SIGKILL
    assert list(tmp_path.iterdir()) == []


def test_a_token_that_is_set_is_gone_after_its_block(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with stop.stop_token() as first, stop.stop_token() as second:
        first.set()
        assert (first.is_set(), second.is_set()) == (True, False)
        assert len(list(tmp_path.iterdir())) == 1
    assert list(tmp_path.iterdir()) == []
