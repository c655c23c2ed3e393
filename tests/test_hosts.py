"""The hosts of the tests: separate networks that can be cut off."""

from __future__ import annotations

import http.server
import signal
import subprocess
import sys
import threading

from tests import hosts
from tests import server as server_of_tests

ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=2).status)"
NAME = "import socket; print(socket.gethostname())"


def asks(host: hosts.Host, address: str) -> str:
    """What a process of a host gets from an address."""
    done = subprocess.run(host.command([sys.executable, "-c", ASK, address]), capture_output=True, text=True)
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_a_host_that_is_cut_off_reaches_nothing_until_it_is_reconnected(tmp_path):
    with hosts.network(2) as network:
        server = http.server.ThreadingHTTPServer(
            (network.address, 0),
            lambda *given: http.server.SimpleHTTPRequestHandler(*given, directory=tmp_path),
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://{network.address}:{server.server_address[1]}/"
        first, second = network.hosts
        assert asks(first, url) == asks(second, url) == "200"
        first.cut()
        assert "timed out" in asks(first, url) or "No route" in asks(first, url)
        assert asks(second, url) == "200"
        first.reconnect()
        server_of_tests.wait_for(lambda: asks(first, url) == "200", 30, "the way back")
        server.shutdown()
        named = subprocess.run(first.command([sys.executable, "-c", NAME]), capture_output=True, text=True)
        assert named.stdout.strip() == "host-1"


def test_no_process_outlives_its_host():
    with hosts.network(1) as network:
        (host,) = network.hosts
        process = host.start(["sleep", "600"])
        server_of_tests.wait_for(lambda: host.pids() == [process.pid], 10, "the process in its namespace")
    assert process.wait(10) == -signal.SIGKILL
    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True).stdout
    assert host.namespace not in listed
