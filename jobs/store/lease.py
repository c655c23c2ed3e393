"""One run a sink: on a local disk a file lock that dies with its process, on an object store a lease that runs out."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from filelock import FileLock, Timeout

from jobs.store import Store
from jobs.store.names import HOLDER, LOCK
from transforms.errors import SinkBusy

LEASE_S = 60.0


@contextmanager
def hold(store: Store) -> Iterator[None]:
    """Hold a sink for one run.

    Raises:
        SinkBusy: another run holds it; the message says which.
    """
    if store.local:
        path = store.path(LOCK)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise _busy(store) from error
        try:
            store.put(HOLDER, _holder())
            yield
        finally:
            lock.release()
        return
    with _lease(store):
        yield


@contextmanager
def _lease(store: Store) -> Iterator[None]:
    """Renewed from a thread; a run that was killed leaves a lease that runs out after LEASE_S."""
    with suppress(FileNotFoundError, ValueError):
        if json.loads(store.get(HOLDER))["until"] > time.time():
            raise _busy(store)
    mine = _holder()
    store.put(HOLDER, mine)
    time.sleep(0.5)
    # Two that came at once both wrote; the one whose writing lasted goes on.
    if json.loads(store.get(HOLDER))["token"] != json.loads(mine)["token"]:
        raise _busy(store)
    stopped = threading.Event()

    def renew() -> None:
        while not stopped.wait(LEASE_S / 4):
            store.put(HOLDER, _holder())

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()
        store.delete(HOLDER)


def _holder() -> bytes:
    now = time.time()
    who = {"host": socket.gethostname(), "pid": os.getpid(), "token": f"{socket.gethostname()}-{os.getpid()}"}
    return json.dumps(who | {"since": time.strftime("%Y-%m-%d %H:%M:%S"), "until": now + LEASE_S}).encode()


def _busy(store: Store) -> SinkBusy:
    try:
        holder = json.loads(store.get(HOLDER))
        who = f"process {holder['pid']} on {holder['host']} since {holder['since']}"
    except (FileNotFoundError, ValueError, KeyError):
        who = "another process"
    return SinkBusy(f"sink.path {store.url!r} is being written by {who}; wait for it or stop it")
