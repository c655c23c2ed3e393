"""One budget of requests for all processes of a machine, as the Hub's RateLimit headers state it.

The Hub counts requests in windows (https://www.ietf.org/archive/id/draft-ietf-httpapi-ratelimit-headers-09.html): each
answer says how many are left, and in how many seconds the window ends. All processes share one small file under a lock,
and take a request from it before they send it; when none is left, they wait for the next window. Without such headers
nothing is counted.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from filelock import FileLock
from huggingface_hub.utils import parse_ratelimit_headers
from pydantic import TypeAdapter

from jobs.hub import cache

LOG = logging.getLogger(__name__)

# A window of the public Hub is 300 s.
MAX_WAIT_S = 600.0


@dataclass
class Window:
    """What is left of a budget.

    Attributes:
        limit: requests of a whole window; 0 if the Hub does not say.
        window_s: seconds of a whole window; 0 if the Hub does not say.
        left: requests that may still be sent.
        under_way: requests that were sent, and are not answered yet.
        ends: when the window ends, seconds since 1970.
    """

    limit: int = 0
    window_s: int = 0
    left: int = 0
    under_way: int = 0
    ends: float = 0.0


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


class Limiter:
    """The budgets of one Hub, for one token.

    Args:
        endpoint: URL of the Hub.
        token: the value of the Authorization header; only a hash of it names the file.
    """

    def __init__(self, endpoint: str, token: str | None):
        who = "anonymous" if token is None else hashlib.sha256(token.encode()).hexdigest()[:12]
        self.file: Path = cache.folder("limits", endpoint, f"{who}.json")
        # When the window ends of which a person was told last.
        self._told = 0.0

    def take(self, kind: str) -> None:
        """Wait until a request of this kind may be sent, and count it as sent.

        Args:
            kind: see `kind_of`.
        """
        # Without the file no answer has stated a limit yet.
        while self.file.exists() and (wait := self._taken(kind)) > 0:
            # Once a window, however many threads wait.
            if time.time() > self._told:
                self._told = time.time() + wait
                LOG.warning("the Hub takes no more requests from this machine for now; going on in %.0f s", wait)
            time.sleep(wait)

    def learn(self, kind: str, headers: Mapping[str, str]) -> None:
        """Count a request as answered, and note what its answer says.

        Args:
            kind: as it was taken.
            headers: of the answer.
        """
        stated = parse_ratelimit_headers(headers)
        if stated is None and not self.file.exists():
            return
        with self._lock():
            state = self._read()
            if (taken := state.window(kind)) is not None:
                taken.under_way = max(0, taken.under_way - 1)
            if stated is not None:
                state.names[kind] = stated.resource_type
                own = state.windows.setdefault(stated.resource_type, Window())
                ends = time.time() + stated.reset_in_seconds
                is_new = ends > own.ends + 1
                left = stated.remaining - own.under_way
                own.left = left if is_new else min(own.left, left)
                own.ends = ends if is_new else own.ends
                own.limit, own.window_s = stated.limit or 0, stated.window_seconds or 0
            self._write(state)

    def windows(self) -> dict[str, Window]:
        """What is known of each budget, by the Hub's name of it."""
        return self._read().windows

    def _taken(self, kind: str) -> float:
        """Take one request; returns the seconds to wait if none is left."""
        with self._lock():
            state, now = self._read(), time.time()
            if (own := state.window(kind)) is None:
                return 0.0
            if now >= own.ends:
                # A new window: until an answer states what is left of it, it is assumed to be whole.
                own.left, own.under_way = (own.limit or 1), 0
                own.ends = now + (own.window_s or 1)
            elif own.left <= 0:
                return min(MAX_WAIT_S, max(0.05, own.ends - now))
            own.left -= 1
            own.under_way += 1
            self._write(state)
            return 0.0

    def _lock(self) -> FileLock:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self.file}.lock")

    def _read(self) -> _State:
        try:
            return _FORM.validate_json(self.file.read_bytes())
        except (FileNotFoundError, ValueError):
            return _State()

    def _write(self, state: _State) -> None:
        cache.write(self.file, json.dumps(asdict(state)).encode())


def kind_of(path: str) -> str:
    """The kind of a request, by the path of its URL below that of the Hub: such requests share a budget."""
    if "/resolve/" in path or path.startswith("/api/resolve-cache/"):
        return "resolvers"
    return "api" if path.startswith("/api/") else "pages"
