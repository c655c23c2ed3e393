"""A run that is asked to stop by a signal."""

import signal
import subprocess
import sys

PROGRAM = """
import os, signal, time
from jobs.execute import stop

with stop.on_signals(within_s=0.5):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)
"""


def test_a_process_that_does_not_stop_in_time_says_so_before_it_is_killed():
    ran = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert ran.returncode == -signal.SIGKILL
    assert ran.stderr == (
        "nightscribe: not stopped within 0.5 s, so killed; finished shards are kept, run again to continue\n"
    )
