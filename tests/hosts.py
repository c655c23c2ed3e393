"""Hosts for tests: network namespaces of this machine, joined by a bridge, that can be cut off and reconnected.

They reach each other and this machine at addresses of 10.83.*; they have no way out. They see the same files.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
import unittest
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock

NETWORK = "10.83"


@dataclass(frozen=True)
class Host:
    """A network namespace.

    Attributes:
        name: of the host, as its processes see it.
        namespace: name of the namespace.
        link: this machine's end of its cable.
        address: its own.
    """

    name: str
    namespace: str
    link: str
    address: str

    def command(self, words: Sequence[str]) -> list[str]:
        """The command that runs another one on this host."""
        named = ["unshare", "--uts", "sh", "-c", 'hostname "$0" && exec "$@"', self.name]
        return ["ip", "netns", "exec", self.namespace, *named, *words]

    def start(
        self,
        words: Sequence[str],
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        log: IO[bytes] | None = None,
    ) -> subprocess.Popen[bytes]:
        """Start a process on this host, in a session of its own; its pid is that of the command itself.

        Args:
            words: the command.
            environment: all variables; by default those of this process.
            cwd: its folder.
            log: where it prints to.
        """
        return subprocess.Popen(
            self.command(words), env=environment, cwd=cwd, stdout=log, stderr=log, start_new_session=True
        )

    def cut(self) -> None:
        """Pull the cable: what is sent is lost, and no connection is told so."""
        _ip("link", "set", self.link, "down")

    def reconnect(self) -> None:
        """Plug it in again; it takes a second until all reach each other."""
        _ip("link", "set", self.link, "up")

    def pids(self) -> list[int]:
        """Its processes."""
        return [int(pid) for pid in _ip("netns", "pids", self.namespace).split()]

    def kill(self) -> None:
        """Pull the plug: SIGKILL to every process."""
        while found := self.pids():
            for pid in found:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.01)


@dataclass(frozen=True)
class Network:
    """Hosts that reach each other.

    Attributes:
        address: of this machine in it.
        hosts: the others.
    """

    address: str
    hosts: tuple[Host, ...]


@contextmanager
def network(count: int) -> Iterator[Network]:
    """Hosts for the block; skips the test where this is not possible."""
    if os.name != "posix" or os.geteuid() != 0:
        raise unittest.SkipTest("network namespaces need root")
    try:
        _ip("-V")
    except FileNotFoundError:
        raise unittest.SkipTest("network namespaces need `ip`; apt-get install iproute2") from None
    # Names of interfaces have 15 letters at most.
    tag = uuid.uuid4().hex[:5]
    bridge = f"nsb-{tag}"
    with ExitStack() as undo:
        # Two tests at a time must not choose the same addresses.
        with FileLock(Path(tempfile.gettempdir()) / "nightscribe-tests-hosts.lock"):
            net = _free_net()
            try:
                _ip("link", "add", bridge, "type", "bridge")
            except subprocess.CalledProcessError as error:
                raise unittest.SkipTest(f"this machine makes no bridge: {error.stderr.strip()}") from error
            undo.callback(_ip, "link", "delete", bridge)
            _ip("address", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        hosts = tuple(_host(undo, tag, bridge, net, number) for number in range(1, count + 1))
        yield Network(f"{net}.1", hosts)


def _host(undo: ExitStack, tag: str, bridge: str, net: str, number: int) -> Host:
    host = Host(f"host-{number}", f"nsn-{tag}-{number}", f"nsv-{tag}-{number}", f"{net}.{10 + number}")
    try:
        _ip("netns", "add", host.namespace)
    except subprocess.CalledProcessError as error:
        raise unittest.SkipTest(f"this machine makes no network namespaces: {error.stderr.strip()}") from error
    undo.callback(_ip, "netns", "delete", host.namespace)
    undo.callback(host.kill)
    _ip("link", "add", host.link, "type", "veth", "peer", "name", "eth0", "netns", host.namespace)
    _ip("link", "set", host.link, "master", bridge)
    _ip("link", "set", host.link, "up")
    _ip("-n", host.namespace, "address", "add", f"{host.address}/24", "dev", "eth0")
    for link in ("lo", "eth0"):
        _ip("-n", host.namespace, "link", "set", link, "up")
    return host


def _free_net() -> str:
    known = _ip("-4", "address")
    nets = [f"{NETWORK}.{number}" for number in range(256)]
    return random.choice([net for net in nets if f" {net}." not in known])


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], check=True, capture_output=True, text=True, timeout=60)
    return done.stdout
