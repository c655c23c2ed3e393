"""A Hub in threads of this process: an address for its API, and another for its storage of large files."""

from __future__ import annotations

import re
import secrets
import threading
import time
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from typing import Literal

from tests.hub import api, resolve, uploads
from tests.hub.access import Refused
from tests.hub.faults import Faults
from tests.hub.repositories import Blob, Kind, Repository, User, is_lfs
from tests.hub.wire import Request, Response, handler

# Entries of a page of a tree, as at the public Hub.
PAGE = 1000


class Hub:
    """Serves until `close`; `reset` forgets everything.

    Attributes:
        endpoint: URL of the API; the same Hub is below `prefix` too.
        storage: URL of the storage, at another address, so that clients must not send it their token.
        repositories, users, objects: the state, by (kind, name), token and SHA-256.
        requests: every request so far, in order of its arrival.
        faults: what goes wrong.
        ignores_parent: whether a commit succeeds although its parent is not the head, as at some self-hosted Hubs.
        lfs: lfs, or regular if every file is sent within its commit.
        page: entries of a page of a tree.
        prefix: a path below which the Hub is served too.
        given: every token that a test was given, never forgotten.
    """

    def __init__(self, port: int = 0):
        self.given: set[str] = set()
        self.lock = threading.RLock()
        self.prefix = "/prefix/of/the/hub"
        self.reset()
        self._servers = [_server(port, handler(self, self._answer)), _server(0, handler(self, self._stored))]
        self.endpoint, self.storage = (f"http://127.0.0.1:{each.server_address[1]}" for each in self._servers)
        for each in self._servers:
            threading.Thread(target=each.serve_forever, args=(0.05,), name="hub", daemon=True).start()

    def reset(self) -> None:
        """Forget all repositories, users, requests and faults."""
        self.repositories: dict[tuple[Kind, str], Repository] = {}
        self.users: dict[str, User] = {}
        self.objects: dict[str, bytes] = {}
        self.requests: list[Request] = []
        self.faults = Faults()
        self.ignores_parent = False
        self.lfs: Literal["lfs", "regular"] = "lfs"
        self.page = PAGE
        self._budget: tuple[int, float] | None = None
        self._window: tuple[float, int] = (0.0, 0)

    def token(self, name: str, write: bool = True, organizations: tuple[str, ...] | None = None) -> str:
        """A new token of a user; without organizations the user is a member of all."""
        token = f"hf_{secrets.token_urlsafe(40)[:34].replace('-', 'x').replace('_', 'y')}"
        self.users[token] = User(name, token, write, organizations)
        self.given.add(token)
        return token

    def repository(
        self,
        kind: Kind,
        name: str,
        files: Mapping[str, bytes] | None = None,
        private: bool = False,
        gated: bool = False,
    ) -> Repository:
        """A new repository, with these files in its first commit."""
        made = Repository(kind, name, private, gated)
        if files:
            made.replace({path: Blob(text, is_lfs(path, len(text))) for path, text in files.items()}, "first files")
        self.repositories[kind, name] = made
        return made

    def limit(self, requests: int, window_s: float) -> None:
        """Answer at most so many requests of the API in a window; more get 429, and each answer states what is left."""
        self._budget, self._window = (requests, window_s), (time.monotonic(), 0)

    def limited(self, request: Request) -> Response | None:
        """The answer to a request beyond the budget; None within it."""
        if self._budget is None:
            return None
        requests, window_s = self._budget
        with self.lock:
            start, used = self._window
            if time.monotonic() - start >= window_s:
                start, used = time.monotonic(), 0
            self._window = (start, used + 1)
            left, reset = requests - used - 1, max(1, round(start + window_s - time.monotonic()))
        request.headers["x-left"], request.headers["x-reset"] = str(max(0, left)), str(reset)
        return None if left >= 0 else Response.json({"error": "Too Many Requests"}, 429, self._limits(request))

    def seen(self, pattern: str = "") -> list[str]:
        """`METHOD /path` of the requests so far in which a regular expression is found."""
        with self.lock:
            lines = [f"{each.method} {each.path}" for each in self.requests]
        return [line for line in lines if re.search(pattern, line)]

    def close(self) -> None:
        """Stop both servers."""
        for each in self._servers:
            each.shutdown()
            each.server_close()

    def _answer(self, request: Request) -> Response:
        try:
            response = self._routed(request)
        except Refused as refused:
            response = refused.response
        response.headers.setdefault("X-Request-Id", secrets.token_hex(8))
        response.headers.update(self._limits(request))
        return response

    def _routed(self, request: Request) -> Response:
        if found := api.answer(self, request) or resolve.answer(self, request):
            return found
        if (batch := re.fullmatch(r"/(datasets/)?([^/]+/[^/]+)\.git/info/lfs/objects/batch", request.path)) is not None:
            return uploads.batch(self, request, "dataset" if batch[1] else "model", batch[2])
        if request.path == "/api/lfs/verify":
            return uploads.verify(self, request)
        return Response.error(404, f"there is no {request.method} {request.path}")

    def _stored(self, request: Request) -> Response:
        return uploads.store(self, request) if request.method == "PUT" else resolve.stored(self, request)

    def _limits(self, request: Request) -> dict[str, str]:
        if self._budget is None or "x-left" not in request.headers:
            return {}
        kind = "resolvers" if "/resolve/" in request.path else "api"
        requests, window_s = self._budget
        return {
            "RateLimit": f'"{kind}";r={request.headers["x-left"]};t={request.headers["x-reset"]}',
            "RateLimit-Policy": f'"fixed window";"{kind}";q={requests};w={max(1, round(window_s))}',
        }


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def _server(port: int, handler_: type) -> ThreadingHTTPServer:
    return _Server(("127.0.0.1", port), handler_)
