"""One run per sink: on a local disk a file lock that ends with its process, on an object store a lease that expires.

Each holder has a number, one more than that of the holder before. Ledger entries and commits contain it, so that writes
of a holder that has lost the lease are recognised (a fencing token: Kleppmann, "How to do distributed locking", 2016).

On an object store holder n is the file `leases/n.json`, created only if it does not exist; each run tests that the
store supports this. The holder rewrites its own file until it is done. The last file is kept, so that no number is used
twice.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from jobs.store import Store, check, machine
from jobs.store.machine import Machine
from jobs.store.names import HOLDER, LEASES, LOCK
from transforms.errors import NightscribeError, SinkBusy, SinkError


@dataclass(frozen=True)
class Lease:
    """The right to write to a sink.

    Attributes:
        store: the sink's.
        number: one more than that of the holder before; 1 for a new sink.
        machine: id of this machine; empty on a local disk.
        since: when it was taken, local time.
        lost: set when another process took the lease over.
    """

    store: Store
    number: int
    machine: str = ""
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Check that no other run holds the sink; to be called before anything is published or removed.

        Raises:
            SinkBusy: another run took it over while this one could not renew its lease.
        """
        if not self.store.local and max(_numbers(self.store), default=0) != self.number:
            self.lost.set()
        if self.lost.is_set():
            raise SinkBusy(
                f"sink.path {self.store.url!r} was taken over by another run, since this one did not reach it for "
                f"{self.store.lease_s:.0f} s; run again, finished shards are kept"
            )


@dataclass(frozen=True)
class _Holder:
    """The content of the file of a lease.

    Attributes:
        number: of the lease.
        until: when it expires, seconds since 1970; on a local disk without meaning.
        since: when it was taken, local time.
        host: the machine of the process that holds it.
        pid: the process.
        token: makes two files of one process differ.
        machine: id of the machine, see `machine`.
    """

    number: int = 0
    until: float = 0.0
    since: str = ""
    host: str = ""
    pid: int = 0
    token: str = ""
    machine: str = ""


_HOLDER = TypeAdapter(_Holder)


@contextmanager
def hold(store: Store) -> Iterator[Lease]:
    """Hold a sink for one run.

    Raises:
        SpecError: the store has no conditional writes.
        SinkBusy: another run holds it; the message says which.
    """
    check(store)
    if not store.local:
        with machine.hold(store.url) as here, _leased(store, here) as lease:
            yield lease
        return
    path = store.path(LOCK)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise _busy(store, _read(store, HOLDER)) from error
    try:
        lease = Lease(store, _read(store, HOLDER).number + 1)
        store.put(HOLDER, _holder(lease))
        yield lease
    finally:
        lock.release()


@contextmanager
def _leased(store: Store, here: Machine) -> Iterator[Lease]:
    """Renewed from a thread; the lease of a run that was killed elsewhere expires after `lease_s` of its store."""
    last = max(_numbers(store), default=0)
    holder = _read(store, _name(last)) if last else _Holder()
    if holder.until > time.time() and not here.has_died(holder.machine):
        raise _busy(store, holder)
    lease = Lease(store, last + 1, here.id)
    name, mine = _name(lease.number), _holder(lease)
    if not store.put_if_absent(name, mine):
        raise _busy(store, _read(store, name))
    if store.put_if_absent(name, _holder(lease)):
        raise SinkError(
            f"sink.path {store.url!r} is on a store that replaces a file although the request says If-None-Match, "
            f"so two runs could write at the same time; update the store, or choose another sink.path"
        )
    numbers = _numbers(store)
    if max(numbers) != lease.number:
        # This process was slow: others have held and released the sink since it read the leases.
        store.delete(name)
        raise _busy(store, _read(store, _name(max(numbers))))
    stopped = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease, stopped), name="lease", daemon=True)
    thread.start()
    try:
        yield lease
    finally:
        stopped.set()
        thread.join()
        if not lease.lost.is_set():
            earlier = {_name(number): None for number in numbers[:-1]}
            store.put_all({**earlier, name: _holder(lease, until=0)}, f"release {name}")


def _renew(lease: Lease, stopped: threading.Event) -> None:
    lasts_s = lease.store.lease_s
    until = time.time() + lasts_s
    while not stopped.wait(lasts_s / 4):
        try:
            lease.check()
            lease.store.put(_name(lease.number), _holder(lease))
            until = time.time() + lasts_s
        except SinkBusy:
            return
        except (OSError, NightscribeError):
            # A store that does not answer now may answer at the next renewal, before the lease expires.
            if time.time() > until:
                lease.lost.set()
                return


def _numbers(store: Store) -> list[int]:
    stems = (name.rsplit("/", 1)[-1].removesuffix(".json") for name in store.names(LEASES))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def _name(number: int) -> str:
    return f"{LEASES}/{number:08d}.json"


def _read(store: Store, name: str) -> _Holder:
    """The holder of the sink as its file states; empty if there is no such file, or if it is damaged."""
    try:
        return _HOLDER.validate_json(store.get(name))
    except (FileNotFoundError, ValueError):
        return _Holder()


def _holder(lease: Lease, until: float | None = None) -> bytes:
    until = time.time() + lease.store.lease_s if until is None else until
    token = uuid.uuid4().hex
    holder = _Holder(lease.number, until, lease.since, socket.gethostname(), os.getpid(), token, lease.machine)
    return json.dumps(asdict(holder)).encode()


def _busy(store: Store, holder: _Holder) -> SinkBusy:
    who = "another process"
    if holder.pid:
        who = f"process {holder.pid} on {holder.host} since {holder.since}"
    return SinkBusy(f"sink.path {store.url!r} is being written by {who}; wait for it or stop it")
