"""The commits of a registry on the Hub, and calls at the same moment."""

from __future__ import annotations

import threading

from tests.hub.local import Hub
from transforms.errors import RunError, SinkError

COMMIT = "POST .*/commit/main"


def titles(hub: Hub, name: str) -> list[str]:
    """Of all commits, oldest first."""
    return [each.title for each in reversed(hub.repositories["model", name].history("main"))]


def together(*calls) -> list[Exception | None]:
    """Run calls in threads that begin at the same moment; what each has raised."""
    barrier, raised = threading.Barrier(len(calls)), [None] * len(calls)

    def run(i, call):
        barrier.wait()
        try:
            call()
        except (RunError, SinkError) as error:
            raised[i] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


# What Hubs do differently, as attributes of the Hub of the tests.
MANNERS = {
    "the public Hub": {"redirects": True, "compresses": True},
    "one whose storage is at its own address": {"stores_here": True, "page": 2},
    "one that keeps large files itself": {"serves_large": True},
    "one without git-lfs": {"lfs": "regular"},
    "one that gives no reasons": {"states_codes": False},
    "one that names files its own way": {"lfs": "regular", "ids": "other"},
    "one below a path": {"prefix": True},
}
