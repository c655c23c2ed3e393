"""Limits of requests in fixed windows, each for one user and one kind of request, as the Hub counts them.

https://huggingface.co/docs/hub/rate-limits
"""

from __future__ import annotations

import threading
import time

from tests.hub.wire import Request, Response


class Budget:
    """So many requests a window; the Hub's own storage is not counted.

    Args:
        requests: of each kind, by each user.
        window_s: seconds of a window, which begins with the first request in it.
    """

    def __init__(self, requests: int, window_s: float):
        self.requests, self.window_s = requests, window_s
        self._windows: dict[tuple[str | None, str], tuple[float, int]] = {}
        self._lock = threading.Lock()

    def take(self, request: Request) -> tuple[bool, dict[str, str]]:
        """Count a request; returns whether it is within the budget, and the headers of its answer."""
        kind = kind_of(request.path)
        with self._lock:
            now, key = time.monotonic(), (request.token, kind)
            start, used = self._windows.get(key, (now, 0))
            if now - start >= self.window_s:
                start, used = now, 0
            self._windows[key] = (start, used + 1)
        left, reset = self.requests - used - 1, max(1, round(start + self.window_s - now))
        return left >= 0, {
            "RateLimit": f'"{kind}";r={max(0, left)};t={reset}',
            "RateLimit-Policy": f'"fixed window";"{kind}";q={self.requests};w={max(1, round(self.window_s))}',
        }


def refused(headers: dict[str, str]) -> Response:
    """The answer to a request beyond the budget."""
    return Response.json({"error": "We had to rate limit you."}, 429, headers)


def kind_of(path: str) -> str:
    """api, resolvers or pages."""
    return "resolvers" if "/resolve/" in path or "/resolve-cache/" in path else "api" if "/api/" in path else "pages"
