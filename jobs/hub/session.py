"""The HTTP client that every library of this process uses for the Hub: patient, within the Hub's limits, and counted.

`huggingface_hub` keeps one client a process and lets a program give its own; `datasets`, `transformers` and `peft` use
that one too. Importing this module gives it ours.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.utils import _http, httpx, parse_ratelimit_headers

from jobs.hub.limiter import MAX_WAIT_S, ROUNDED_S, kind_of, limiter
from transforms.errors import SpecError

LOG = logging.getLogger(__name__)

# Seconds for which a request is repeated after errors that can pass; a Hub that is started again takes about a minute.
PATIENCE = "NIGHTSCRIBE_HUB_PATIENCE_S"
PATIENCE_S = 60.0
FIRST_PAUSE_S, MAX_PAUSE_S = 0.5, 30.0

# Of that, what a Hub gets that has not answered this process yet: HF_ENDPOINT may be wrong.
UNKNOWN_PATIENCE_S = 8.0

# Answers that another attempt may not get.
PASSING = frozenset({408, 429, 500, 502, 503, 504})
READING = frozenset({"GET", "HEAD"})

# Requests that read, or prepare an upload, and are POST because of their length.
HARMLESS = re.compile(r"/paths-info/|/preupload/|/info/lfs/objects/batch$")

# In the text of an error of OpenSSL.
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"

# A Hub may take a minute for a commit of thousands of files; without these a Hub that is silent is waited for forever.
TIMEOUT = httpx.Timeout(120.0, connect=10.0)
READING_TIMEOUT = httpx.Timeout(30.0, connect=10.0)


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


@dataclass
class Known:
    """What this process knows of the Hub.

    Attributes:
        has_answered: whether it has ever answered without an error.
        gave_up: when a request was last given up, in seconds of the monotonic clock. Clients repeat their requests on
            top of this module, and would wait several times as long.
    """

    has_answered: bool = False
    gave_up: float = -math.inf

    def lasts(self, spent_s: float) -> bool:
        """Whether a request that has failed is sent again.

        Args:
            spent_s: seconds that were spent on its failures, those of the next pause included.
        """
        whole = patience_s() if self.has_answered else min(patience_s(), UNKNOWN_PATIENCE_S)
        if spent_s <= (0.0 if time.monotonic() < self.gave_up + PATIENCE_S else whole):
            return True
        self.gave_up = time.monotonic()
        return False

    def is_answered(self) -> None:
        """The Hub works."""
        self.has_answered, self.gave_up = True, -math.inf


class Client(httpx.Client):
    """Repeats a request that failed for a reason that can pass; each attempt is taken from the machine's budget."""

    def send(self, request: httpx.Request, **how: Any) -> httpx.Response:
        """Send a request, as `httpx.Client.send` does.

        A request that only reads is repeated after any such failure. Another one is repeated only if the Hub has not
        begun with it: it could not be reached, or it answered 429.
        """
        _limit_time(request)
        spent = asked = 0.0
        for attempt in itertools.count():
            pause, more, began = min(MAX_PAUSE_S, FIRST_PAUSE_S * 2**attempt), 0.0, time.monotonic()
            try:
                response = super().send(request, **how)
            except httpx.TransportError as error:
                spent += pause + (time.monotonic() - began if isinstance(error, httpx.TimeoutException) else 0.0)
                # `datasets` asks services beside the Hub that a self-hosted Hub does not have, and does without.
                is_beside = _is_unreached(error) and not _is_limited(request)
                is_final = is_beside or UNTRUSTED in str(error)
                if is_final or not _may_repeat(request, _is_unreached(error)) or not _HUB.lasts(spent):
                    raise
                why = type(error).__name__
            else:
                status = response.status_code
                if status not in PASSING:
                    if _is_limited(request):
                        _HUB.is_answered()
                    return response
                more = _asked_pause(response) or 0.0
                asked += more
                spent += 0.0 if more else pause
                if asked > MAX_WAIT_S or not _may_repeat(request, status == 429) or not _HUB.lasts(spent):
                    return response
                why = f"HTTP {status}"
                response.close()
            LOG.info("%s %s: %s; again in %.1f s", request.method, request.url.path, why, more or pause)
            time.sleep(more or pause)
        raise AssertionError("an endless loop has ended")


def endpoint() -> str:
    """URL of the Hub, without a slash at its end.

    Raises:
        SpecError: it has a password in it, which would be in messages and names of cached files.
    """
    if "@" in urlsplit(constants.ENDPOINT).netloc:
        raise SpecError(
            "HF_ENDPOINT has a user or a password in it, which messages would repeat; remove it, and set HF_TOKEN to "
            "a token of that Hub"
        )
    return constants.ENDPOINT.rstrip("/")


def patience_s() -> float:
    """Seconds for which a request is repeated: NIGHTSCRIBE_HUB_PATIENCE_S, or a minute.

    Raises:
        SpecError: it is no number of seconds.
    """
    stated = os.environ.get(PATIENCE, "").strip()
    try:
        seconds = float(stated or PATIENCE_S)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds < math.inf:
        raise SpecError(f"{PATIENCE} is {stated!r}; set it to a number of seconds, such as 300, or 0 to repeat nothing")
    return seconds


def forget() -> None:
    """Take the Hub for one that works, whatever it did before."""
    _HUB.is_answered()


def api() -> HfApi:
    """A client of the Hub's API with the token that huggingface_hub finds."""
    return HfApi(library_name="nightscribe")


def taken() -> Counted:
    """The requests of this process since the last call, so that each is counted once by whoever reports it."""
    global _COUNTED
    with _LOCK:
        found, _COUNTED = _COUNTED, Counted()
    return found


_LOCK = threading.Lock()
_COUNTED = Counted()
_HUB = Known()


def _limit_time(request: httpx.Request) -> None:
    """End a request that gets no answer; huggingface_hub lets most of them wait without an end."""
    limit = READING_TIMEOUT if request.method in READING else TIMEOUT
    given = request.extensions.get("timeout", {})
    stated = {key: seconds for key, seconds in given.items() if seconds is not None}
    request.extensions = {**request.extensions, "timeout": {**limit.as_dict(), **stated}}


def _is_unreached(error: httpx.TransportError) -> bool:
    return isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)


def _may_repeat(request: httpx.Request, is_unprocessed: bool) -> bool:
    if request.url.host.startswith("datasets-server.") or request.url.path.startswith("/datasets.huggingface.co/"):
        # The viewer and a counter of downloads: `datasets` asks them before it reads, and does without an answer. Of a
        # Hub in a closed network there are none, and the repeats would take 15 seconds.
        return False
    # The body of an upload is read from a file once; huggingface_hub repeats those itself.
    is_harmless = request.method in READING or HARMLESS.search(request.url.path) is not None
    return isinstance(request.stream, httpx.ByteStream) and (is_unprocessed or is_harmless)


def _asked_pause(response: httpx.Response) -> float | None:
    """The seconds that an answer asks to wait; None if it does not."""
    after = response.headers.get("Retry-After", "").strip()
    if after.isdigit():
        return float(after)
    if after:
        try:
            return max(0.0, parsedate_to_datetime(after).timestamp() - time.time())
        except ValueError:
            LOG.debug("Retry-After: %s is neither a number nor a date", after)
    stated = parse_ratelimit_headers(response.headers)
    return None if stated is None or stated.remaining else stated.reset_in_seconds + ROUNDED_S


def _is_limited(request: httpx.Request) -> bool:
    """Whether the Hub itself is asked: the storage behind it has another address, and no budget."""
    url = httpx.URL(endpoint())
    return (request.url.host, request.url.port) == (url.host, url.port)


def _kind(request: httpx.Request) -> str:
    return kind_of(request.url.path.removeprefix(httpx.URL(endpoint()).path.rstrip("/")))


def _before(request: httpx.Request) -> None:
    if _is_limited(request):
        limiter(endpoint(), request.headers.get("Authorization")).take(_kind(request))


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
        pause = _asked_pause(response) if response.status_code == 429 else None
        limiter(endpoint(), request.headers.get("Authorization")).learn(_kind(request), response.headers, pause)
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
# Its lines at level INFO have the addresses of files in the storage, which anybody can read for an hour.
logging.getLogger("httpx2").setLevel(logging.WARNING)
