"""The error that a worker raised, from what arrives of it: its name and message, or what a runner makes of them."""

from __future__ import annotations

import re

from jobs.execute.stop import StopToken
from transforms import errors
from transforms.errors import NightscribeError, Stopped, Unexpected


def received(error: Exception, stop: StopToken) -> NightscribeError:
    """The error that a worker raised, without the text that Beam adds.

    A worker process sends only the text of a traceback; its last line has our error.

    Args:
        error: what the runner raises.
        stop: of the run; whatever happens after a stop is its end.
    """
    if stop.is_set():
        return Stopped("the run was asked to stop; finished shards are kept, run again to continue")
    text = re.sub(r"\s*\[while running .*?\]", "", str(error), flags=re.DOTALL)
    if isinstance(error, NightscribeError):
        return type(error)(text)
    for line in reversed(text.splitlines()):
        name, colon, message = line.strip().partition(": ")
        module, _, kind = name.rpartition(".")
        if colon and module == errors.__name__ and (found := named(kind, message)) is not None:
            return found
    last = next((line for line in reversed(text.splitlines()) if line.strip()), type(error).__name__)
    return Unexpected.from_(RuntimeError(last.strip()), "a worker process")


def named(kind: str, message: str) -> NightscribeError | None:
    """An error by the name of its class; None if it is none of ours."""
    found = getattr(errors, kind, None)
    return found(message) if isinstance(found, type) and issubclass(found, NightscribeError) else None
