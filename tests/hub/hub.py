"""A Hub in threads of this process: an address for its API, and another for its storage of large files."""

from __future__ import annotations

import re
import secrets
import sys
import threading
from collections.abc import Mapping
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

from tests.hub import api, resolve, uploads
from tests.hub.budget import Budget, refused
from tests.hub.faults import Faults
from tests.hub.repositories import Blob, Kind, Repository, User
from tests.hub.wire import Refused, Request, Response, handler

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
        moved: new names of repositories, by kind and old name.
        states_codes: whether errors have a header X-Error-Code; the public Hub's have, a proxy's may not.
        hides_gated: whether the listing of a gated repository needs access; at the public Hub only its files do.
        compresses: whether text files are sent with gzip to clients that take it, without a length and without regard
            to a range, as the public Hub's cache does.
        stores_here: whether the storage is at the address of the API, and wants the token too.
        serves_large: whether files of git-lfs are served by the API itself, as at simple self-hosted Hubs.
        redirects: whether files that git keeps are served from another path, as at the public Hub.
        xet: a folder that clients with Xet use as its store (tests.hub.xet); None without Xet.
        xet_hashes: SHA-256 -> hash of files in that store.
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
        self.moved: dict[tuple[Kind, str], str] = {}
        self.states_codes = True
        self.hides_gated = False
        self.compresses = False
        self.redirects = False
        self.serves_large = False
        self.stores_here = False
        self.xet: Path | None = None
        self.xet_hashes: dict[str, str] = {}
        self._budget: Budget | None = None

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
            as_lfs = self.lfs == "lfs"
            blobs = {path: Blob.of(path, text) if as_lfs else Blob(text) for path, text in files.items()}
            made.replace(blobs, "first files")
        self.repositories[kind, name] = made
        return made

    def limit(self, requests: int, window_s: float) -> None:
        """Answer at most so many requests of each kind of a user in a window; more get 429."""
        self._budget = Budget(requests, window_s)

    def content_of(self, repository: Repository, oid: str) -> bytes | None:
        """The content of a file of git-lfs, by its SHA-256: uploaded, or in a commit."""
        if oid in self.objects:
            return self.objects[oid]
        blobs = (blob for commit in repository.commits.values() for blob in commit.files.values())
        return next((blob.content for blob in blobs if blob.lfs and blob.sha256 == oid), None)

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
        is_within, limits = self._budget.take(request) if self._budget else (True, {})
        try:
            response = self._routed(request) if is_within else refused(limits)
        except Refused as error:
            response = error.response
        response.headers.setdefault("X-Request-Id", secrets.token_hex(8))
        response.headers.update(limits)
        if not self.states_codes:
            response.headers.pop("X-Error-Code", None)
        return response

    def _routed(self, request: Request) -> Response:
        if request.path.startswith(resolve.SAME):
            return resolve.stored(self, request)
        for part in (api, resolve, uploads):
            if found := part.answer(self, request):
                return found
        return Response.error(404, f"Sorry, we can't find {request.method} {request.path}")

    def _stored(self, request: Request) -> Response:
        return uploads.store(self, request) if request.method == "PUT" else resolve.stored(self, request)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that leaves in the middle of an answer is no error of the server."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _server(port: int, handler_: type) -> ThreadingHTTPServer:
    return _Server(("127.0.0.1", port), handler_)
