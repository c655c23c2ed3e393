"""An HTTP proxy in front of a server on this machine that refuses, delays, throttles and cuts, for tests.

    with proxy.running(minio.address) as between:
        between.faults = [Fault(status=503, times=3), Fault(cut_answer_after=100, share=0.1)]

It reads the requests of a connection one by one and counts them; the answers pass through as they are.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

BLOCK = 1 << 16
HEAD = 1 << 20


@dataclass(frozen=True)
class Request:
    """The head of a request.

    Attributes:
        method: GET, PUT, ...
        path: with the query.
        size: bytes of the body; 0 for a body in chunks, which has no length.
        headers: by name in lower case.
    """

    method: str
    path: str
    size: int
    headers: dict[str, str]


@dataclass
class Fault:
    """What happens to some requests; several fields can be set.

    Attributes:
        only: which requests are meant.
        share: the probability that one of them is hit.
        times: only the first so many are hit; None: no end.
        delay_s: wait so long before the request is forwarded.
        status: answer this instead, in the words of S3; nothing is forwarded.
        cut_upload_after: reset the connection after so many bytes of the body; 0: before anything is forwarded.
            Requests with a shorter body are not meant.
        cut_answer_after: reset the connection after so many bytes of the answer; 0: the answer is lost, although the
            server has done what was asked.
    """

    only: Callable[[Request], bool] = lambda request: True
    share: float = 1.0
    times: int | None = None
    delay_s: float = 0.0
    status: int | None = None
    cut_upload_after: int | None = None
    cut_answer_after: int | None = None


@dataclass
class Proxy:
    """A proxy that runs; its attributes may be changed at any time.

    Attributes:
        target: host and port of the server.
        address: http://host:port of the proxy.
        faults: what happens to requests: of those that mean a request, the first one that hits it.
        delay_s: added to every request, for a server that is far away.
        bytes_per_s: of each connection in each direction; None: as fast as it goes.
        requests: those that have arrived, refused ones included.
        hit: the requests that a fault has hit.
        received: bytes of the answers that were sent to clients.
        sent: bytes that were forwarded to the server.
    """

    target: tuple[str, int]
    chance: random.Random
    address: str = ""
    faults: list[Fault] = field(default_factory=list)
    delay_s: float = 0.0
    bytes_per_s: float | None = None
    requests: list[Request] = field(default_factory=list)
    hit: list[Request] = field(default_factory=list)
    received: int = 0
    sent: int = 0

    def forget(self) -> None:
        """Count from zero."""
        self.requests, self.hit, self.received, self.sent = [], [], 0, 0

    def count(self, method: str, ending: str = "") -> int:
        """Requests of a method so far whose path, without the query, ends like this."""
        return sum(each.method == method and each.path.split("?")[0].endswith(ending) for each in self.requests)


@contextmanager
def running(address: str, seed: int = 0) -> Iterator[Proxy]:
    """A proxy for the block, on a port of its own.

    Args:
        address: http://host:port of the server.
        seed: of the faults that hit by chance; which request is hit depends on the order of their arrival too.
    """
    url = urlsplit(address)
    proxy = Proxy((url.hostname or "127.0.0.1", url.port or 80), random.Random(seed))
    loop = asyncio.new_event_loop()
    started = threading.Event()

    async def serve() -> None:
        tasks: set[asyncio.Task[None]] = set()

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            with suppress(asyncio.CancelledError):
                await _Connection(proxy, reader, writer).run()
            tasks.discard(task)

        server = await asyncio.start_server(accept, "127.0.0.1", 0, limit=HEAD)
        proxy.address = "http://{}:{}".format(*server.sockets[0].getsockname())
        stop.append(lambda: loop.call_soon_threadsafe(finished.set))
        finished = asyncio.Event()
        started.set()
        await finished.wait()
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    stop: list[Callable[[], object]] = []
    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()), name="proxy", daemon=True)
    thread.start()
    started.wait()
    try:
        yield proxy
    finally:
        stop[0]()
        thread.join()
        loop.close()


class _Cut(Exception):
    """A fault cuts the connection now."""


class _Connection:
    """One connection of a client, with one to the server."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.proxy, self.reader, self.writer = proxy, reader, writer
        # Bytes of the present answer after which the connection is cut.
        self.answer_left: int | None = None

    async def run(self) -> None:
        upstream = None
        try:
            from_server, upstream = await asyncio.open_connection(*self.proxy.target)
            answers = asyncio.ensure_future(self._answers(from_server))
            requests = asyncio.ensure_future(self._requests(upstream))
            done, waiting = await asyncio.wait({answers, requests}, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            for task in done:
                task.result()
        except _Cut:
            # A reset instead of an orderly end.
            raw = self.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.writer.transport.abort()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            for writer in (self.writer, upstream):
                if writer is not None:
                    writer.close()

    async def _requests(self, upstream: asyncio.StreamWriter) -> None:
        while True:
            try:
                head = await self.reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            request = _parsed(head)
            self.proxy.requests.append(request)
            fault = self._fault(request)
            await asyncio.sleep(self.proxy.delay_s + fault.delay_s)
            if fault.status is not None:
                await self._refuse(request, fault.status)
                return
            if fault.cut_upload_after == 0:
                raise _Cut
            self.answer_left = fault.cut_answer_after
            await self._forward(upstream, head)
            left = fault.cut_upload_after
            async for block in self._body(request):
                if left is not None and (left := left - len(block)) <= 0:
                    await self._forward(upstream, block[: len(block) + left])
                    raise _Cut
                await self._forward(upstream, block)

    async def _body(self, request: Request) -> AsyncIterator[bytes]:
        left = request.size
        while left:
            if not (block := await self.reader.read(min(left, BLOCK))):
                raise asyncio.IncompleteReadError(b"", left)
            left -= len(block)
            yield block
        if "chunked" in request.headers.get("transfer-encoding", ""):
            while True:
                line = await self.reader.readuntil(b"\r\n")
                yield line
                if not (size := int(line.split(b";")[0], 16)):
                    break
                yield await self.reader.readexactly(size + 2)
            # Trailers end with an empty line.
            while True:
                line = await self.reader.readuntil(b"\r\n")
                yield line
                if line == b"\r\n":
                    break

    async def _forward(self, upstream: asyncio.StreamWriter, block: bytes) -> None:
        self.proxy.sent += len(block)
        upstream.write(block)
        await upstream.drain()
        await self._throttle(block)

    async def _answers(self, from_server: asyncio.StreamReader) -> None:
        while block := await from_server.read(BLOCK):
            # An invitation to send the body is not the answer yet.
            invites = block.startswith(b"HTTP/1.1 100 ")
            if self.answer_left is not None and not invites:
                block = block[: self.answer_left]
                self.answer_left -= len(block)
            self.proxy.received += len(block)
            self.writer.write(block)
            await self.writer.drain()
            if self.answer_left == 0 and not invites:
                raise _Cut
            await self._throttle(block)

    async def _throttle(self, block: bytes) -> None:
        if self.proxy.bytes_per_s is not None:
            await asyncio.sleep(len(block) / self.proxy.bytes_per_s)

    async def _refuse(self, request: Request, status: int) -> None:
        """Answer as S3 does when there are too many requests, and close: a body may be on its way."""
        if "100-continue" not in request.headers.get("expect", "").lower():
            async for _ in self._body(request):
                pass
        code = {429: "TooManyRequests", 503: "SlowDown"}.get(status, "InternalError")
        body = f"<Error><Code>{code}</Code><Message>Please reduce your request rate.</Message></Error>".encode()
        if request.method == "HEAD":
            body = b""
        head = f"HTTP/1.1 {status} {code}\r\nContent-Type: application/xml\r\nContent-Length: {len(body)}\r\n"
        self.writer.write(f"{head}Connection: close\r\n\r\n".encode() + body)
        await self.writer.drain()

    def _fault(self, request: Request) -> Fault:
        for fault in self.proxy.faults:
            long_enough = request.size > (fault.cut_upload_after or 0) or not fault.cut_upload_after
            if fault.times == 0 or not long_enough or not fault.only(request):
                continue
            if fault.share < 1 and self.proxy.chance.random() >= fault.share:
                continue
            if fault.times is not None:
                fault.times -= 1
            self.proxy.hit.append(request)
            return fault
        return Fault()


def _parsed(head: bytes) -> Request:
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.partition(":") for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return Request(method, path, int(headers.get("content-length", 0)), headers)
