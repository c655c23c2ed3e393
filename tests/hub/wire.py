"""Requests and answers of the Hub over HTTP/1.1: what handlers take and give, ranges, faults, their record."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

if TYPE_CHECKING:
    from tests.hub.faults import Fault
    from tests.hub.hub import Hub

BLOCK = 64 << 10


@dataclass
class Request:
    """A request as it came, and once it is answered, how.

    Attributes:
        method, path: the path without prefix and query, still percent-encoded.
        query: name -> values.
        headers: names in lower case.
        body: what was sent.
        status: of the answer.
        sent: bytes of the answer's body that were sent.
        fault: what is done to it.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""
    status: int = 0
    sent: int = 0
    fault: Fault | None = None

    @property
    def token(self) -> str | None:
        """The token of the Authorization header."""
        found = re.fullmatch(r"Bearer (\S+)", self.headers.get("authorization", ""))
        return found.group(1) if found else None


@dataclass
class Response:
    """An answer; `ranged` says whether a part of the body may be asked for."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    ranged: bool = False

    @classmethod
    def json(cls, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        """A JSON document."""
        kind = {"Content-Type": "application/json; charset=utf-8"}
        return cls(status, json.dumps(value).encode(), kind | dict(headers or {}))

    @classmethod
    def error(cls, status: int, message: str, code: str | None = None) -> Response:
        """An error in the form of the Hub."""
        headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
        return cls.json({"error": message}, status, headers)


def handler(hub: Hub, answer: Callable[[Request], Response]) -> type[BaseHTTPRequestHandler]:
    """A handler class for the threads of a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body are two writes; without this each answer waits 40 ms for an acknowledgement.
        disable_nagle_algorithm = True

        def do(self) -> None:
            request = self._request()
            fault = hub.faults.match(f"{self.command} {request.path}?{urlsplit(self.path).query}")
            request.fault = fault
            response = hub.limited(request) or _failed(fault) or answer(request)
            with hub.lock:
                hub.requests.append(request)
            self._send(request, response, fault)

        # The names that the base class looks for.
        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing: the record of requests is the log."""

        def _request(self) -> Request:
            parts = urlsplit(self.path)
            path = parts.path
            if hub.prefix and path.startswith(f"{hub.prefix}/"):
                path = path[len(hub.prefix) :]
            headers = {name.lower(): value for name, value in self.headers.items()}
            body = self._body(headers)
            return Request(self.command, path, parse_qs(parts.query, keep_blank_values=True), headers, body)

        def _body(self, headers: Mapping[str, str]) -> bytes:
            if headers.get("transfer-encoding", "").lower() != "chunked":
                return self.rfile.read(int(headers.get("content-length", 0)))
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)

        def _send(self, request: Request, response: Response, fault: Fault | None) -> None:
            body, headers, status = response.body, dict(response.headers), response.status
            if fault is not None and fault.kind == "corrupt" and body:
                middle = len(body) // 2
                body = body[:middle] + bytes([body[middle] ^ 0xFF]) + body[middle + 1 :]
            if response.ranged and status == 200:
                headers["Accept-Ranges"] = "bytes"
                wanted = None if fault is not None and fault.kind == "ignore-range" else headers_range(request, body)
                if wanted is not None:
                    start, stop = wanted
                    if start >= len(body):
                        status, body, headers = 416, b"", headers | {"Content-Range": f"bytes */{len(body)}"}
                    else:
                        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(body)}"
                        status, body = 206, body[start:stop]
            request.status = status
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self._send_body(request, body, fault)

        def _send_body(self, request: Request, body: bytes, fault: Fault | None) -> None:
            if fault is not None and fault.kind == "cut":
                body, self.close_connection = body[: fault.after], True
            step = len(body) or 1
            if fault is not None and fault.kind == "slow":
                step = max(1, fault.bytes_per_s // 10)
            for start in range(0, len(body), step):
                if fault is not None and fault.kind == "slow":
                    time.sleep(0.1)
                try:
                    self.wfile.write(body[start : start + step])
                except (BrokenPipeError, ConnectionResetError):
                    # The client has seen enough.
                    self.close_connection = True
                    return
                request.sent += len(body[start : start + step])

    return Handler


def headers_range(request: Request, body: bytes) -> tuple[int, int] | None:
    """Start and stop of the bytes that a Range header asks for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, len(body) - int(last)), len(body)
    return int(first), min(len(body), int(last) + 1 if last else len(body))


def _failed(fault: Fault | None) -> Response | None:
    if fault is None or fault.kind != "status":
        return None
    return Response(fault.status, fault.body, dict(fault.headers))
