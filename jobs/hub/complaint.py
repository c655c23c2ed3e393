"""Exceptions of the Hub's clients -> the end of a sentence that says what to do; no token is ever in it."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator

from huggingface_hub import get_token
from huggingface_hub.errors import (
    DisabledRepoError,
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.utils import httpx
from huggingface_hub.utils._runtime import is_xet_available

from jobs.hub.session import PASSING, UNTRUSTED, endpoint
from jobs.secrets import redacted

# What the clients raise about the Hub. Those of `datasets` and HfFileSystem are OSErrors, with these as their cause.
# Xet raises OSErrors and RuntimeErrors.
HUB_ERRORS = (
    HfHubHTTPError,
    EntryNotFoundError,
    OfflineModeIsEnabled,
    httpx.HTTPError,
    OSError,
    ValueError,
    RuntimeError,
)

AGAIN = "run again later, finished shards are kept"


def is_passing(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    return any(
        _status(each) in PASSING if _status(each) else isinstance(each, httpx.TransportError) for each in _chain(error)
    )


def explain(error: BaseException, name: str) -> str:
    """What is wrong, and what to do about it, as the end of a sentence.

    Args:
        error: what a client raised; its causes are looked at too.
        name: the repository as its page is called: org/name, or datasets/org/name.
    """
    found = (_known(each, f"{endpoint()}/{name}") for each in _chain(error))
    return next((text for text in found if text is not None), redacted(_first_line(error)))


def _known(error: BaseException, page: str) -> str | None:
    """The sentence for one exception; None for one that says nothing by itself."""
    status = _status(error)
    if isinstance(error, GatedRepoError):
        return f"it is gated; ask for access on {page}, and set HF_TOKEN to a token of the user who has it"
    if isinstance(error, DisabledRepoError):
        return f"the Hub has disabled it; {page} says why"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no such revision; {page} lists its branches, tags and commits"
    if isinstance(error, OfflineModeIsEnabled | LocalEntryNotFoundError) and not _was_asked(error):
        return "it is not in the cache of this machine, and HF_HUB_OFFLINE is set; run once without HF_HUB_OFFLINE"
    if isinstance(error, FileMetadataError):
        return f"{endpoint()} does not say which file it sends; check HF_ENDPOINT, and the proxy in between"
    if isinstance(error, RepositoryNotFoundError):
        return f"{endpoint()} does not have it, or it is private; check the name, or set HF_TOKEN to one that reads it"
    if isinstance(error, HfHubHTTPError) and isinstance(error, EntryNotFoundError):
        return f"a file of it is not there; {page} shows what is"
    if status == 401 and get_token() is None:
        return f"{endpoint()} wants to know who asks; set HF_TOKEN, and check that the name is right"
    if status == 401:
        return f"{endpoint()} does not accept the token; set HF_TOKEN to a valid one (`hf auth login` makes one)"
    if status == 403:
        return f"the token may not do this; give it the permission, or set HF_TOKEN to one that has it, for {page}"
    if status == 404:
        return f"{endpoint()} does not have it; check the name and HF_ENDPOINT"
    if status == 412:
        return "somebody else has changed the repository meanwhile; run again"
    if status == 429:
        return f"{endpoint()} takes no more requests for now; {AGAIN}"
    if status is not None and status >= 500:
        return f"{endpoint()} fails (HTTP {status}); {AGAIN}"
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return f"{endpoint()} does not answer in time; {AGAIN}"
    if isinstance(error, httpx.ProxyError):
        return f"the proxy between this machine and {endpoint()} refuses it; check HTTPS_PROXY and NO_PROXY"
    if isinstance(error, httpx.ConnectError) and UNTRUSTED in str(error):
        return f"the certificate of {endpoint()} is not trusted; set SSL_CERT_FILE to that of its authority"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return f"{endpoint()} cannot be reached; check the network and HF_ENDPOINT, and run again"
    if isinstance(error, httpx.TransportError):
        return f"the connection to {endpoint()} breaks off; {AGAIN}"
    if isinstance(error, json.JSONDecodeError):
        return (
            f"{endpoint()} sends something else than a Hub does; check HF_ENDPOINT, and the proxy in between, which "
            "may ask to sign in"
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full; free some space (HF_HOME has the downloads), and {AGAIN}"
    if type(error).__module__ == "hf_xet" or (isinstance(error, RuntimeError) and is_xet_available()):
        said = redacted(_first_line(error))
        return f"its transfer by Xet fails ({said}); run again later, or set HF_HUB_DISABLE_XET=1 to do without Xet"
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that led to it, the Hub's own first: libraries replace an error by one that says less."""
    causes = [error]
    while (cause := causes[-1].__cause__ or causes[-1].__context__) is not None and cause not in causes:
        causes.append(cause)
    # A network library has an exception of its own below each of the clients'; a RuntimeError says least.
    yield from sorted(
        causes,
        key=lambda each: (not isinstance(each, HfHubHTTPError | OfflineModeIsEnabled), isinstance(each, RuntimeError)),
    )


def _was_asked(error: BaseException) -> bool:
    """Whether the Hub was asked, in vain: a client says then, too, that the file is not in the cache."""
    return any(isinstance(each, httpx.TransportError | HfHubHTTPError | FileMetadataError) for each in _chain(error))


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _first_line(error: BaseException) -> str:
    """The message of an error without the page that a proxy sent."""
    text = str(error).strip().split("<html", 1)[0].split("<!DOCTYPE", 1)[0]
    return " ".join(text.split())[:200].rstrip(". ") or type(error).__name__
