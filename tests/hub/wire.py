"""Requests and answers of the Hub over HTTP/1.1: what handlers take and give, and how faults change what is sent."""

from __future__ import annotations

import gzip
import json
import re
import time
import traceback
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
        prefix: the path below which the Hub was asked, or nothing.
        status: of the answer.
        sent: bytes of the answer's body that were sent.
        fault: what is done to it.
    """

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes = b""
    prefix: str = ""
    status: int = 0
    sent: int = 0
    fault: Fault | None = None

    @property
    def token(self) -> str | None:
        """The token of the Authorization header."""
        found = re.fullmatch(r"Bearer (\S+)", self.headers.get("authorization", ""))
        return found.group(1) if found else None

    def asks(self, name: str) -> bool:
        """Whether a parameter of the query is true."""
        return self.query.get(name, [""])[0].lower() in ("true", "1")

    def json(self) -> dict[str, Any]:
        """The JSON object of the body.

        Raises:
            Refused: it is none, or not declared as JSON.
        """
        kind = self.headers.get("content-type", "").split(";")[0].strip()
        if kind not in ("application/json", "application/vnd.git-lfs+json"):
            raise Refused(Response.error(415, f"the body must be application/json, not {kind or 'undeclared'}"))
        try:
            found = json.loads(self.body)
        except ValueError as error:
            raise Refused(Response.error(400, f"the body is no JSON: {error}")) from error
        if not isinstance(found, dict):
            raise Refused(Response.error(400, "the body is no JSON object"))
        return found


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
    def error(cls, status: int, message: str, code: str | None = None, **headers: str) -> Response:
        """An error in the form of the Hub."""
        line = " ".join(message.split()).encode("ascii", "replace").decode()
        stated = {"X-Error-Message": line} | ({"X-Error-Code": code} if code else {}) | headers
        return cls.json({"error": message}, status, stated)


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, response: Response):
        super().__init__(response.status, response.body)
        self.response = response


def handler(hub: Hub, answer: Callable[[Request], Response]) -> type[BaseHTTPRequestHandler]:
    """A handler class for the threads of a server."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body are two writes; without this each answer waits 40 ms for an acknowledgement.
        disable_nagle_algorithm = True

        def do(self) -> None:
            request = self._request()
            fault = request.fault = hub.faults.match(f"{self.command} {request.path}?{urlsplit(self.path).query}")
            response = _failed(fault) or self._answered(request)
            with hub.lock:
                hub.requests.append(request)
            self._send(request, response, fault)

        # The names that the base class looks for.
        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do  # noqa: N815

        def log_message(self, *_: object) -> None:
            """Nothing: the record of requests is the log."""

        def _answered(self, request: Request) -> Response:
            try:
                return answer(request)
            except Refused as refused:
                return refused.response
            except Exception:
                # A test sees the reason in what its client raises.
                return Response.error(500, traceback.format_exc()[-2000:])

        def _request(self) -> Request:
            parts, prefix = urlsplit(self.path), ""
            if hub.prefix and parts.path.startswith(f"{hub.prefix}/"):
                prefix = hub.prefix
            headers = {name.lower(): value for name, value in self.headers.items()}
            query = parse_qs(parts.query, keep_blank_values=True)
            return Request(self.command, parts.path[len(prefix) :], query, headers, self._body(headers), prefix)

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
            response = conditional(request, _damaged(response, fault))
            zipped = hub.compresses and response.status == 200 and _is_text(response) and _takes_gzip(request)
            if zipped:
                response = _zipped(response)
            elif response.ranged and response.status == 200:
                response = in_range(request, response, fault is not None and fault.kind == "ignore-range")
            request.status = response.status
            self.send_response(response.status)
            for name, value in response.headers.items():
                self.send_header(name, value)
            if zipped and request.method != "HEAD":
                self.send_header("Transfer-Encoding", "chunked")
            elif not zipped:
                self.send_header("Content-Length", str(len(response.body)))
            self.end_headers()
            if request.method != "HEAD" and response.status != 304:
                self._send_body(request, response.body, fault, zipped)

        def _send_body(self, request: Request, body: bytes, fault: Fault | None, in_chunks: bool) -> None:
            if fault is not None and fault.kind == "cut":
                body, self.close_connection = body[: fault.after], True
            is_slow = fault is not None and fault.kind == "slow"
            step = max(1, fault.bytes_per_s // 10) if fault is not None and is_slow else BLOCK
            try:
                for start in range(0, len(body), step):
                    if is_slow:
                        time.sleep(0.1)
                    part = body[start : start + step]
                    # Counted first: a test may look as soon as its client has everything.
                    request.sent += len(part)
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(part), part) if in_chunks else part)
                if in_chunks and not self.close_connection:
                    self.wfile.write(b"0\r\n\r\n")
            except (BrokenPipeError, ConnectionResetError):
                # The client has seen enough.
                self.close_connection = True

    return Handler


def conditional(request: Request, response: Response) -> Response:
    """The answer to a request with If-Match or If-None-Match, as a server of files gives it."""
    etag = response.headers.get("ETag")
    if not response.ranged or response.status != 200 or etag is None:
        return response
    if (wanted := request.headers.get("if-match")) is not None and wanted not in ("*", etag):
        return Response(412, b"", {"ETag": etag})
    if request.headers.get("if-none-match") == etag:
        return Response(304, b"", {"ETag": etag})
    return response


def in_range(request: Request, response: Response, is_ignored: bool = False) -> Response:
    """The part of a file that a request asks for, or all of it."""
    body, headers = response.body, response.headers | {"Accept-Ranges": "bytes"}
    wanted = None if is_ignored else _range(request, len(body))
    if request.headers.get("if-range", headers.get("ETag")) != headers.get("ETag"):
        wanted = None
    if wanted is None:
        return Response(200, body, headers)
    start, stop = wanted
    if start >= min(stop, len(body)):
        return Response(416, b"", {"Content-Range": f"bytes */{len(body)}"})
    return Response(206, body[start:stop], headers | {"Content-Range": f"bytes {start}-{stop - 1}/{len(body)}"})


def _range(request: Request, size: int) -> tuple[int, int] | None:
    """Start and stop of the bytes that a Range header asks for; several ranges in one request are not served."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", request.headers.get("range", ""))
    if found is None or found.group(0) == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1 if last else size)


def _failed(fault: Fault | None) -> Response | None:
    if fault is None or fault.kind != "status":
        return None
    return Response(fault.status, fault.body, dict(fault.headers))


def _damaged(response: Response, fault: Fault | None) -> Response:
    if fault is None or fault.kind != "corrupt" or not response.body:
        return response
    body, middle = bytearray(response.body), len(response.body) // 2
    body[middle] ^= 0xFF
    return Response(response.status, bytes(body), response.headers, response.ranged)


def _is_text(response: Response) -> bool:
    return response.ranged and response.headers.get("Content-Type", "").startswith("text/")


def _takes_gzip(request: Request) -> bool:
    return "gzip" in request.headers.get("accept-encoding", "")


def _zipped(response: Response) -> Response:
    headers = response.headers | {"Content-Encoding": "gzip", "ETag": f"W/{response.headers['ETag']}"}
    return Response(200, gzip.compress(response.body, mtime=0), headers)
