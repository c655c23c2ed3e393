"""Where parts run: a Prefect work pool or a Dask cluster starts a process for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class Site(Protocol):
    """Starts parts, and tells when their processes have ended.

    What a worker does it says itself, in the sink; a site only has to notice what a dead worker cannot say.
    """

    def workers(self) -> int:
        """How many workers there are now, busy or not; 0 if there are none, or if it is not known yet."""
        ...

    def start(self, number: int) -> None:
        """Start a part as soon as a worker is free; returns at once.

        Raises:
            RunError: the server does not answer.
        """
        ...

    def gone(self) -> Mapping[int, str]:
        """Parts whose processes have ended or will not start, since the last call, with a reason for a person.

        It may name parts that have done all their shards too. Only the site can notice the end of a process that has
        not said anything yet; one that has is taken for dead when it says nothing more.
        """
        ...

    def stop(self, number: int) -> None:
        """End the process of a part that has not said that it ends, as far as it can be reached; returns at once."""
        ...

    def avoid(self, number: int) -> bool:
        """Give the worker of a part no other one for a while: it has refused it, or never said anything.

        Returns whether the site can: one that cannot choose the worker of a part hands out nothing for a while instead.
        """
        ...

    def complaint(self) -> str | None:
        """What a person should know, such as that there is no worker and how to start one; None if all is well."""
        ...

    def wait(self, seconds: float) -> None:
        """Wait until something has happened, for at most so long."""
        ...
