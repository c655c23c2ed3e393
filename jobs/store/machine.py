"""Whether a process of this machine still holds the lease of a store: its lock ends with the process.

Processes that share the cache folder are on one machine in this sense. So the lease of a process that was killed is
taken over at once by the next one here; elsewhere it has to expire.
"""

from __future__ import annotations

import hashlib
import logging
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from transforms import user_cache

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Machine:
    """This machine, for one store.

    Attributes:
        id: a random word; empty if the cache folder cannot be written.
        alone: whether no other process here holds the store; held until the block ends.
    """

    id: str
    alone: bool

    def has_died(self, machine: str) -> bool:
        """Whether a holder on that machine was a process here that has ended."""
        return self.alone and machine == self.id != ""


@contextmanager
def hold(url: str) -> Iterator[Machine]:
    """Hold a store among the processes of this machine, if no other one does."""
    folder = user_cache.folder("leases")
    lock = FileLock(folder / f"{hashlib.sha256(url.encode()).hexdigest()[:32]}.lock")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        identity = _id(folder / "machine")
        lock.acquire(timeout=0)
    except Timeout:
        yield Machine(identity, alone=False)
        return
    except OSError as error:
        LOG.warning("%s cannot be written, so a lease of a killed process has to expire: %s", folder, error.strerror)
        yield Machine("", alone=False)
        return
    try:
        yield Machine(identity, alone=True)
    finally:
        lock.release()


def _id(file: Path) -> str:
    if not file.exists():
        own = file.with_name(f"machine.{uuid.uuid4().hex}")
        own.write_text(uuid.uuid4().hex)
        try:
            # Of several processes one succeeds.
            os.link(own, file)
        except FileExistsError:
            LOG.debug("another process has named this machine")
        finally:
            own.unlink()
    return file.read_text()
