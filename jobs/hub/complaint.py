"""Exceptions of the Hub's clients -> the end of a sentence that says what to do; no token is ever in it."""

from __future__ import annotations

import errno

from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx

from jobs.hub.session import endpoint

# What the clients raise about the Hub. Those of `datasets` and HfFileSystem are OSErrors, with these as their cause.
HUB_ERRORS = (HfHubHTTPError, EntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError, ValueError)

# Answers that another attempt may not get.
PASSING = (408, 429, 500, 502, 503, 504)


def is_passing(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    status = _status(error)
    return status in PASSING if status else isinstance(error, httpx.TransportError)


def explain(error: BaseException, name: str) -> str:
    """What is wrong, and what to do about it, as the end of a sentence.

    Args:
        error: what a client raised.
        name: the repository, org/name.
    """
    status = _status(error)
    if isinstance(error, GatedRepoError):
        return f"access to it is granted on {endpoint()}/{name}; ask for it there, and set HF_TOKEN"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no such revision; see {endpoint()}/{name}"
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint()} does not have it, or it is private; check the name, or set HF_TOKEN to one that can read"
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError):
        return "it is not in the cache of this machine, and HF_HUB_OFFLINE is set; run once without HF_HUB_OFFLINE"
    if isinstance(error, EntryNotFoundError):
        return f"it lacks a file; see {endpoint()}/{name}"
    if status in (401, 403):
        return f"{endpoint()} refuses the token; set HF_TOKEN to a valid one that may do this (`hf auth login`)"
    if status == 429:
        return f"{endpoint()} takes no more requests for now; run again later, finished shards are kept"
    if status and status >= 500:
        return f"{endpoint()} does not answer (HTTP {status}); run again later, finished shards are kept"
    if isinstance(error, httpx.TransportError):
        return f"{endpoint()} cannot be reached; check the network and HF_ENDPOINT, and run again"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full; free some space and run again, finished shards are kept"
    return " ".join(str(error).split())[:200] or type(error).__name__


def _status(error: BaseException) -> int | None:
    response = getattr(error, "response", None)
    return getattr(response, "status_code", None)
