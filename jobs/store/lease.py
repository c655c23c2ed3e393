"""One run per sink: on a local disk a file lock that ends with its process, on an object store a lease that expires.

Each holder has a number, one more than that of the holder before. Ledger entries and commits contain it, so that writes
of a holder that has lost the lease are recognised (a fencing token: Kleppmann, "How to do distributed locking", 2016).

On an object store holder n is the file `leases/n.json`, created only if it does not exist; each run tests that the
store supports this. The holder rewrites its own file until it is done, only as long as no one else has changed it. Who
takes over an expired lease changes that file first, in the same way, so one of them notices. How old a file is is told
by the store's clock alone, and how long ago the last renewal was by the holder's own, so clocks need not agree. The
last file is kept, so that no number is used twice.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace

from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from jobs.secrets import shown
from jobs.store import Store, check, machine
from jobs.store.fencing import clock, file_of, numbers, taken_over
from jobs.store.machine import Machine
from jobs.store.names import HOLDER, LOCK
from transforms.errors import NightscribeError, SinkBusy, SinkError

# The share of a lease after which its holder no longer trusts it: the store rounds times to a second, and another one
# may take it when all of it is over.
TRUSTED = 0.75


@dataclass
class _Renewal:
    """The last renewal of a lease.

    Attributes:
        version: of its file, as it was written then.
        at: when the request for it was begun, by `clock`.
        lock: held for a renewal.
    """

    version: str
    at: float
    lock: threading.Lock = field(default_factory=threading.Lock)


@dataclass(frozen=True)
class Lease:
    """The right to write to a sink.

    Attributes:
        store: the sink's.
        number: one more than that of the holder before; 1 for a new sink.
        machine: id of this machine; empty on a local disk.
        since: when it was taken, local time.
        lost: set when another process took the lease over.
        last: the last renewal; None on a local disk.
    """

    store: Store
    number: int
    machine: str = ""
    since: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S"))
    lost: threading.Event = field(default_factory=threading.Event)
    last: _Renewal | None = None

    def check(self) -> None:
        """Check with the store that no other run holds the sink; to be called before anything is published or removed.

        Raises:
            SinkBusy: another run took it over while this one could not renew its lease.
        """
        if self.last is not None:
            self.renew()

    def secure(self) -> None:
        """Check the same before each change, without a request as long as the last renewal is trusted.

        Raises:
            SinkBusy: as `check`.
        """
        if self.last is not None and not self.is_trusted():
            self.renew()

    def is_trusted(self) -> bool:
        """Whether no other process can have taken it over."""
        if self.last is None:
            return True
        return not self.lost.is_set() and clock() - self.last.at < TRUSTED * self.store.lease_s

    def renew(self) -> None:
        """Rewrite its file, if no one else has changed it.

        Raises:
            SinkBusy: another process has.
        """
        assert self.last is not None
        with self.last.lock:
            if not self.lost.is_set():
                at, mine = clock(), _holder(self)
                if not self.store.can_match:
                    is_mine = max(numbers(self.store), default=0) == self.number
                    if is_mine:
                        self.store.put(file_of(self.number), mine)
                else:
                    is_mine = self.store.put_if_match(file_of(self.number), mine, self.last.version)
                    found = self.store.get_versioned(file_of(self.number)) if is_mine else None
                    is_mine = found is not None and found[0] == mine
                    self.last.version = found[1] if found is not None else ""
                if is_mine:
                    self.last.at = at
                else:
                    self.lost.set()
        if self.lost.is_set():
            raise taken_over(self.store)


@dataclass(frozen=True)
class _Holder:
    """The content of the file of a lease.

    Attributes:
        number: of the lease.
        until: when it expires by the holder's clock, seconds since 1970; 0: it was given back, or taken away.
        since: when it was taken, local time.
        host: the machine of the process that holds it.
        pid: the process.
        token: makes two files of one process differ.
        machine: id of the machine, see `machine`.
        lasts_s: how long it lasts after each renewal.
    """

    number: int = 0
    until: float = 0.0
    since: str = ""
    host: str = ""
    pid: int = 0
    token: str = ""
    machine: str = ""
    lasts_s: float = Store.lease_s


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
        try:
            yield lease
        finally:
            # For workers on other machines, which do not see the lock. A full disk must not hide the error of the run.
            with suppress(OSError, NightscribeError):
                store.put(HOLDER, _holder(lease, until=0))
    finally:
        lock.release()


@contextmanager
def _leased(store: Store, here: Machine) -> Iterator[Lease]:
    """Renewed from a thread; the lease of a run that was killed elsewhere expires after `lease_s` of its store."""
    last = max(numbers(store), default=0)
    if last:
        _seize(store, file_of(last), here)
    at = clock()
    lease = Lease(store, last + 1, here.id, last=_Renewal("", at))
    name, mine = file_of(lease.number), _holder(lease)
    if not store.put_if_absent(name, mine):
        raise _busy(store, _read(store, name))
    if store.put_if_absent(name, _holder(lease)):
        raise SinkError(
            f"sink.path {shown(store.url)!r} is on a store that replaces a file although the request says "
            f"If-None-Match, so two runs could write at the same time; update the store, or choose another sink.path"
        )
    known, found = numbers(store), store.get_versioned(name)
    if max(known) != lease.number or found is None or found[0] != mine:
        # This process was slow: others have held and released the sink since it read the leases.
        store.delete(name)
        raise _busy(store, _read(store, file_of(max(known))))
    assert lease.last is not None
    lease.last.version = found[1]
    stopped = threading.Event()
    thread = threading.Thread(target=_renew, args=(lease, stopped), name="lease", daemon=True)
    thread.start()
    store.fence = lease
    try:
        yield lease
    finally:
        store.fence = None
        stopped.set()
        thread.join()
        if not lease.lost.is_set():
            earlier = {file_of(number): None for number in known[:-1]}
            store.put_all({**earlier, name: _holder(lease, until=0)}, f"release {name}")


def _seize(store: Store, name: str, here: Machine) -> None:
    """Make sure that nobody holds the lease of a file, so that its holder notices should it only have slept.

    Raises:
        SinkBusy: it is held.
    """
    found = store.get_versioned(name)
    holder = _Holder() if found is None else _parsed(found[0])
    if found is None or not holder.until:
        return
    if not here.has_died(holder.machine):
        age_s = store.age_s(name)
        # Without a clock of the store, that of the holder has to do.
        if (holder.until > time.time()) if age_s is None else age_s <= holder.lasts_s:
            raise _busy(store, holder)
    if store.can_match:
        taken = json.dumps(asdict(replace(holder, until=0.0, token=uuid.uuid4().hex))).encode()
        if not store.put_if_match(name, taken, found[1]):
            raise _busy(store, holder)


def _renew(lease: Lease, stopped: threading.Event) -> None:
    while not stopped.wait(lease.store.lease_s / 4):
        try:
            lease.renew()
        except SinkBusy:
            return
        except (OSError, NightscribeError):
            # A store that does not answer now may answer at the next renewal.
            continue


def _read(store: Store, name: str) -> _Holder:
    """The holder of the sink as its file states; empty if there is no such file, or if it is damaged."""
    try:
        return _parsed(store.get(name))
    except FileNotFoundError:
        return _Holder()


def _parsed(content: bytes) -> _Holder:
    try:
        return _HOLDER.validate_json(content)
    except ValueError:
        return _Holder()


def _holder(lease: Lease, until: float | None = None) -> bytes:
    until = time.time() + lease.store.lease_s if until is None else until
    host, token = socket.gethostname(), uuid.uuid4().hex
    holder = _Holder(lease.number, until, lease.since, host, os.getpid(), token, lease.machine, lease.store.lease_s)
    return json.dumps(asdict(holder)).encode()


def _busy(store: Store, holder: _Holder) -> SinkBusy:
    who = "another process"
    if holder.pid:
        who = f"process {holder.pid} on {holder.host} since {holder.since}"
    return SinkBusy(f"sink.path {shown(store.url)!r} is being written by {who}; wait for it or stop it")
