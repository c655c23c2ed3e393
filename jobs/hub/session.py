"""The HTTP client that every library of this process uses for the Hub: patient, within the Hub's limits, and counted.

`huggingface_hub` keeps one client a process and lets a program give its own; `datasets`, `transformers` and `peft` use
that one too. Importing this module gives it ours.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.utils import _http, httpx, parse_ratelimit_headers

from jobs.hub.limiter import MAX_WAIT_S, Limiter, kind_of

LOG = logging.getLogger(__name__)

# Seconds before the attempts after the first one; the clients repeat some requests themselves on top.
PAUSES_S = (0.5, 1.0, 2.0, 4.0)

# Answers that another attempt may not get.
PASSING = frozenset({408, 429, 500, 502, 503, 504})
READING = frozenset({"GET", "HEAD"})

# A Hub may take a minute for a commit of thousands of files.
TIMEOUT = httpx.Timeout(120.0, connect=10.0)


@dataclass(frozen=True)
class Counted:
    """Requests to the Hub and to the storage behind it.

    Attributes:
        requests: answers received, redirects included.
        received: bytes of their bodies, as they came over the wire.
    """

    requests: int = 0
    received: int = 0

    def __add__(self, other: Counted) -> Counted:
        return Counted(self.requests + other.requests, self.received + other.received)


class Client(httpx.Client):
    """Repeats a request that failed for a reason that can pass; each attempt is taken from the machine's budget."""

    def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        """Send a request, as `httpx.Client.send` does.

        A request that only reads is repeated after any such failure. Another one is repeated only if the Hub has not
        begun with it: it could not be reached, or it answered 429.
        """
        for attempt in itertools.count():
            try:
                response = super().send(request, **how)
            except httpx.TransportError as error:
                if attempt == len(PAUSES_S) or not _may_repeat(request, isinstance(error, httpx.ConnectError)):
                    raise
                if isinstance(error, httpx.ConnectError) and not _is_limited(request):
                    # `datasets` asks services beside the Hub that a self-hosted Hub does not have, and does without.
                    raise
                pause, why = PAUSES_S[attempt], type(error).__name__
            else:
                status = response.status_code
                if status not in PASSING or attempt == len(PAUSES_S) or not _may_repeat(request, status == 429):
                    return response
                pause, why = _asked_pause(response) or PAUSES_S[attempt], f"HTTP {status}"
                if pause > MAX_WAIT_S:
                    return response
                response.close()
            LOG.info("%s %s: %s; again in %.1f s", request.method, request.url.path, why, pause)
            time.sleep(pause)
        raise AssertionError("an endless loop has ended")


def endpoint() -> str:
    """URL of the Hub, without a slash at its end."""
    return constants.ENDPOINT.rstrip("/")


def api() -> HfApi:
    """A client of the Hub's API with the token that huggingface_hub finds."""
    return HfApi(library_name="nightscribe")


def taken() -> Counted:
    """The requests of this process since the last call, so that each is counted once by whoever reports it."""
    global _COUNTED
    with _LOCK:
        found, _COUNTED = _COUNTED, Counted()
    return found


def limiter(token: str | None) -> Limiter:
    """The budget of the Hub for a token, shared with the other processes of this machine.

    Args:
        token: value of the Authorization header; None without one.
    """
    made = Limiter(endpoint(), token)
    return _LIMITERS.setdefault(made.file, made)


_LOCK = threading.Lock()
_LIMITERS: dict[Path, Limiter] = {}
_COUNTED = Counted()


def _may_repeat(request: httpx.Request, is_unprocessed: bool) -> bool:
    if request.url.host.startswith("datasets-server.") or request.url.path.startswith("/datasets.huggingface.co/"):
        # The viewer and a counter of downloads: `datasets` asks them before it reads, and does without an answer. Of a
        # Hub in a closed network there are none, and the repeats would take 15 seconds.
        return False
    # The body of an upload is read from a file once; huggingface_hub repeats those itself.
    return isinstance(request.stream, httpx.ByteStream) and (is_unprocessed or request.method in READING)


def _asked_pause(response: httpx.Response) -> float | None:
    """The seconds that an answer asks to wait; None if it does not."""
    if (after := response.headers.get("Retry-After", "")).isdigit():
        return float(after)
    stated = parse_ratelimit_headers(response.headers)
    return None if stated is None or stated.remaining else stated.reset_in_seconds + 0.1


def _is_limited(request: httpx.Request) -> bool:
    """Whether the Hub itself is asked: the storage behind it has another address, and no budget."""
    url = httpx.URL(endpoint())
    return (request.url.host, request.url.port) == (url.host, url.port)


def _kind(request: httpx.Request) -> str:
    return kind_of(request.url.path.removeprefix(httpx.URL(endpoint()).path.rstrip("/")))


def _before(request: httpx.Request) -> None:
    if _is_limited(request):
        limiter(request.headers.get("Authorization")).take(_kind(request))


def _count(more: Counted) -> None:
    global _COUNTED
    with _LOCK:
        _COUNTED += more


class _Body(httpx.SyncByteStream):
    """The body of an answer; its bytes are counted as they arrive."""

    def __init__(self, stream: httpx.SyncByteStream):
        self.stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for block in self.stream:
            _count(Counted(0, len(block)))
            yield block

    def close(self) -> None:
        self.stream.close()


def _after(response: httpx.Response) -> None:
    request = response.request
    if _is_limited(request):
        limiter(request.headers.get("Authorization")).learn(_kind(request), response.headers)
    _count(Counted(1))
    if isinstance(response.stream, httpx.SyncByteStream):
        response.stream = _Body(response.stream)


def _client() -> Client:
    return Client(
        event_hooks={"request": [_http.hf_request_event_hook, _before], "response": [_after]},
        follow_redirects=True,
        timeout=TIMEOUT,
    )


set_client_factory(_client)
