"""Requests of this process to object stores, counted as they are sent, repeated ones included: they are what is billed.

S3 counts in `s3`. Requests to Google Cloud Storage and Azure are not counted, because their libraries have no one place
that every request passes.
"""

from __future__ import annotations

import threading
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Counted:
    """Requests to object stores.

    Attributes:
        lists: listings, one for each page.
        heads: requests for what is known about an object.
        gets: reads of an object or of a part of it.
        puts: writes: of an object, a part of one, or the begin and end of an upload in parts.
        deletes: deletions.
        received: bytes of objects read.
        sent: bytes of objects written.
    """

    lists: int = 0
    heads: int = 0
    gets: int = 0
    puts: int = 0
    deletes: int = 0
    received: int = 0
    sent: int = 0

    def __add__(self, other: Counted) -> Counted:
        mine = asdict(self)
        return Counted(**{name: mine[name] + value for name, value in asdict(other).items()})

    @property
    def requests(self) -> int:
        """All requests."""
        return self.lists + self.heads + self.gets + self.puts + self.deletes


def add(counted: Counted) -> None:
    """Count requests of this process."""
    global _COUNTED
    with _LOCK:
        _COUNTED += counted


def taken() -> Counted:
    """The requests of this process since the last call, so that each is counted once by whoever reports it."""
    global _COUNTED
    with _LOCK:
        found, _COUNTED = _COUNTED, Counted()
    return found


_LOCK = threading.Lock()
_COUNTED = Counted()
