"""The server that Prefect starts where none is set."""

import os
import signal
import subprocess
import sys

PROGRAM = """
import os, signal, time
from flows import server
from prefect.server.api.server import SubprocessASGIServer

asked = []
signal.signal(signal.SIGINT, lambda *_: asked.append(1))
server.start_temporary()
os.killpg(0, signal.SIGINT)
started = SubprocessASGIServer()
time.sleep(2)
print(len(asked), started.server_process.poll(), server.silent(started.api_url))
"""


def test_ctrl_c_in_a_terminal_leaves_the_temporary_server_to_the_flow_that_is_stopped(tmp_path):
    environment = {key: value for key, value in os.environ.items() if key != "PREFECT_API_URL"}
    environment |= {"PREFECT_HOME": str(tmp_path), "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "DO_NOT_TRACK": "1"}
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=environment | {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120"},
        capture_output=True,
        text=True,
        timeout=180,
        start_new_session=True,
    )
    assert ran.stdout == "1 None None\n", ran.stderr
    assert ran.returncode == 0
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
