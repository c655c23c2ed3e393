"""Who may still change a store: a newer lease ends the right of older ones and of everyone who works for them."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from jobs.secrets import shown
from jobs.store.names import HOLDER, LEASES
from transforms.errors import SinkBusy

if TYPE_CHECKING:
    from jobs.store import Store


class Fence(Protocol):
    """Keeps a process that has lost its right to write from changing a store."""

    def secure(self) -> None:
        """Check it before a change; raises `SinkBusy` if the right is lost."""
        ...

    def is_trusted(self) -> bool:
        """Whether the last check still holds; without a request, for a change that is tried again."""
        ...


def clock() -> float:
    """Seconds that only grow, the time in which this machine sleeps included."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def numbers(store: Store) -> list[int]:
    """The numbers of the leases of which there are files, in order."""
    stems = (name.rsplit("/", 1)[-1].removesuffix(".json") for name in store.names(LEASES))
    return sorted(int(stem) for stem in stems if stem.isdigit())


def file_of(number: int) -> str:
    """The file of a lease."""
    return f"{LEASES}/{number:08d}.json"


def holder(store: Store) -> tuple[int, bool]:
    """The number of the newest lease, and whether it is still held as far as its file says; 0 if there is none."""
    if store.local:
        name, number = HOLDER, 0
    elif number := max(numbers(store), default=0):
        name = file_of(number)
    else:
        return 0, False
    try:
        content = json.loads(store.get(name))
        return number or int(content["number"]), bool(content["until"])
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return number, False


def taken_over(store: Store) -> SinkBusy:
    """The complaint of a process whose lease another one has now."""
    return SinkBusy(
        f"sink.path {shown(store.url)!r} was taken over by another run, since this one did not reach it for "
        f"{store.lease_s:.0f} s; run again, finished shards are kept"
    )


@dataclass(frozen=True)
class Follower:
    """A process that works for the holder of a lease and does not renew it, such as a worker of a cluster.

    Attributes:
        store: the sink's.
        number: of the lease.
        seen: when the lease was last seen to be the newest one, by `clock`.
    """

    store: Store
    number: int
    seen: list[float] = field(default_factory=lambda: [-float("inf")])

    def secure(self) -> None:
        """Check now and then that the lease is held, and that no newer one exists.

        Raises:
            SinkBusy: the run has ended, or another one has taken the sink over.
        """
        if not self.is_trusted():
            at = clock()
            newest, is_held = holder(self.store)
            if newest != self.number:
                raise taken_over(self.store)
            if not is_held:
                raise SinkBusy(
                    f"sink.path {shown(self.store.url)!r}: the run that this process works for has ended; nothing "
                    f"that it computes now is needed"
                )
            self.seen[0] = at

    def is_trusted(self) -> bool:
        """Whether the last listing is new enough."""
        return clock() - self.seen[0] < self.store.lease_s / 4


def follow(store: Store, number: int) -> None:
    """Let a store refuse changes once there is a newer lease than the one that a run was planned under.

    Args:
        store: of a sink.
        number: of the lease; 0 if the run has none.
    """
    if not store.on_hub and number:
        store.fence = Follower(store, number)
