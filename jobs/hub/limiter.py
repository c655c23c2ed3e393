"""One budget of requests for all processes of a machine, as the Hub's RateLimit headers state it.

The Hub counts requests in windows (https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-09.html): each
answer says how many are left, and in how many seconds the window ends. All processes share one small file under a
lock, and take requests from it before they send them: several at once while many are left, because the file costs a
millisecond, and one by one near the end. When none is left, they wait for the next window. Without such headers nothing
is counted.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock
from huggingface_hub.utils import parse_ratelimit_headers
from huggingface_hub.utils._http import RateLimitInfo
from pydantic import TypeAdapter

from jobs.hub import cache
from transforms import user_cache

LOG = logging.getLogger(__name__)

# The longest that a request waits for its turn, before it is sent all the same. A window of the public Hub is 300 s.
MAX_WAIT_S = 600.0

# A process takes this part of what is left at once, and at most so many requests.
LEASED_PART = 1 / 40
MAX_LEASED = 32

# Hubs state whole seconds, and may round them down.
ROUNDED_S = 1.0

# Another process holds the file for milliseconds.
LOCKED_S = 20.0


@dataclass
class Window:
    """What is left of a budget.

    Attributes:
        limit: requests of a whole window; 0 if the Hub does not say.
        window_s: seconds of a whole window; 0 if the Hub does not say.
        left: requests that may still be taken.
        under_way: requests that were taken, and are not answered yet.
        ends: when the window ends, seconds since 1970.
        is_assumed: whether the end of the one before began it; no answer has named its end yet.
    """

    limit: int = 0
    window_s: int = 0
    left: int = 0
    under_way: int = 0
    ends: float = 0.0
    is_assumed: bool = False

    def learn(self, stated: RateLimitInfo, at: float) -> None:
        """Note what an answer says.

        Args:
            stated: the answer's headers.
            at: when it came, seconds since 1970.
        """
        ends, left = at + stated.reset_in_seconds + ROUNDED_S, stated.remaining - self.under_way
        if not self.is_assumed and ends < self.ends - 1:
            # An answer from the window before.
            return
        # Within a window an answer may be older than what is known.
        is_same = not self.is_assumed and ends <= self.ends + 1
        self.left = min(self.left, left) if is_same else left
        self.ends = self.ends if is_same else ends
        self.is_assumed = False
        self.limit, self.window_s = stated.limit or 0, stated.window_seconds or 0


@dataclass
class _State:
    """What the processes of a machine know together.

    Attributes:
        windows: name of a budget, as the Hub calls it -> what is left of it.
        names: kind of request -> the budget that it counted against.
    """

    windows: dict[str, Window] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)

    def window(self, kind: str) -> Window | None:
        """The budget of a kind of request; None while no answer has named it."""
        return self.windows.get(self.names.get(kind, kind))


_FORM = TypeAdapter(_State)


@dataclass
class _Lease:
    """What this process has taken of a budget for one kind of request.

    Attributes:
        left: requests that it may send without looking at the file.
        ends: when the window of these ends, seconds since 1970.
        answered: requests that were answered since it last wrote to the file.
        stated: the newest answer since then, and when it came.
    """

    left: int = 0
    ends: float = 0.0
    answered: int = 0
    stated: tuple[RateLimitInfo, float] | None = None


class Limiter:
    """The budgets of one Hub, for one token.

    Args:
        endpoint: URL of the Hub.
        token: the value of the Authorization header; only a hash of it names the file.
    """

    def __init__(self, endpoint: str, token: str | None):
        who = "anonymous" if token is None else hashlib.sha256(token.encode()).hexdigest()[:12]
        self.file: Path = cache.folder("limits", endpoint, f"{who}.json")
        self._leases: dict[str, _Lease] = {}
        self._lock = threading.Lock()
        self._said = 0.0
        self._is_broken = False

    def take(self, kind: str) -> None:
        """Wait until a request of this kind may be sent, and count it as sent.

        Args:
            kind: see `kind_of`.
        """
        started = time.monotonic()
        while (wait := self._taken(kind)) > 0 and (rest := started + MAX_WAIT_S - time.monotonic()) > 0:
            if time.time() > self._said:
                self._said = time.time() + wait
                LOG.warning("the Hub takes no more requests from this machine for now; going on in %.0f s", wait)
            time.sleep(min(wait, rest))

    def learn(self, kind: str, headers: Mapping[str, str], pause_s: float | None = None) -> None:
        """Count a request as answered, and note what its answer says.

        Args:
            kind: as it was taken.
            headers: of the answer.
            pause_s: seconds for which the answer asks to send no more requests, if its headers state no budget.
        """
        stated, now = parse_ratelimit_headers(headers), time.time()
        if stated is None and pause_s:
            stated = RateLimitInfo(kind, remaining=0, reset_in_seconds=math.ceil(max(0, pause_s - ROUNDED_S)))
        with self._lock:
            if stated is None and kind not in self._leases:
                return
            own = self._leases.setdefault(kind, _Lease())
            own.answered += 1
            own.stated = own.stated if stated is None else (stated, now)
            if own.left == 0 or (stated is not None and stated.remaining <= 0):
                own.left = 0
                self._change(kind, own, take=False)

    def windows(self) -> dict[str, Window]:
        """What is known of each budget, by the Hub's name of it."""
        return self._read().windows

    def _taken(self, kind: str) -> float:
        """Take one request; returns the seconds to wait if none is left."""
        with self._lock:
            own = self._leases.get(kind)
            if own is not None and own.left > 0 and time.time() < own.ends:
                own.left -= 1
                return 0.0
            # Without the file no answer has stated a limit yet.
            if own is None and not os.path.exists(self.file):
                return 0.0
            return self._change(kind, self._leases.setdefault(kind, _Lease()), take=True)

    def _change(self, kind: str, own: _Lease, take: bool) -> float:
        """Write what this process has learned to the file, and take requests from it if they are wanted.

        Returns:
            The seconds to wait if none is left.
        """
        if self._is_broken:
            return 0.0
        try:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.file}.lock", timeout=LOCKED_S):
                state = self._read()
                _note(state, kind, own)
                wait = _lease(state, kind, own) if take else 0.0
                user_cache.write(self.file, json.dumps(asdict(state)).encode())
                return wait
        except OSError as error:
            self._is_broken = True
            LOG.warning(
                "%s cannot be written, so this process does not know how many requests to the Hub are left: %s",
                self.file,
                error.strerror or error,
            )
            return 0.0

    def _read(self) -> _State:
        try:
            return _FORM.validate_json(self.file.read_bytes())
        except (FileNotFoundError, ValueError):
            return _State()


def limiter(endpoint: str, token: str | None) -> Limiter:
    """The budgets of a Hub for a token in this process; a fork of it takes requests of its own.

    Args:
        endpoint: URL of the Hub.
        token: the value of the Authorization header; None without one.
    """
    return _limiter(endpoint, token, cache.folder(), os.getpid())


@functools.lru_cache(64)
def _limiter(endpoint: str, token: str | None, _folder: Path, _process: int) -> Limiter:
    return Limiter(endpoint, token)


def _note(state: _State, kind: str, own: _Lease) -> None:
    """What a process has learned."""
    if (window := state.window(kind)) is not None:
        window.under_way = max(0, window.under_way - own.answered)
    if own.stated is not None:
        stated, at = own.stated
        state.names[kind] = stated.resource_type
        state.windows.setdefault(stated.resource_type, Window()).learn(stated, at)
    own.answered, own.stated = 0, None


def _lease(state: _State, kind: str, own: _Lease) -> float:
    """Take requests of a budget, one of them for now; returns the seconds to wait if none is left."""
    now = time.time()
    if (window := state.window(kind)) is None:
        return 0.0
    if now >= window.ends and not window.limit:
        # The Hub does not say how many there are in a whole window.
        del state.windows[state.names.get(kind, kind)]
        return 0.0
    if now >= window.ends:
        # Until an answer states what is left of a new window, it is assumed to be whole.
        window.left, window.under_way = window.limit, 0
        window.ends, window.is_assumed = now + (window.window_s or 1), True
    elif window.left <= 0:
        return max(0.05, window.ends - now)
    leased = max(1, min(MAX_LEASED, int(window.left * LEASED_PART)))
    # What was taken of a window before has ended with it.
    own.left, own.ends = leased - 1, window.ends
    window.left -= leased
    window.under_way += leased
    return 0.0


def kind_of(path: str) -> str:
    """The kind of a request, by the path of its URL below that of the Hub: such requests share a budget."""
    if "/resolve/" in path or path.startswith("/api/resolve-cache/"):
        return "resolvers"
    return "api" if path.startswith("/api/") else "pages"
