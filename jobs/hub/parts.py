"""Parts of a file that will be read soon, fetched ahead by threads: neighbours in one request, few at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise

Range = tuple[int, int]

# Bytes between two parts are read too, to save a request, up to this share of the parts themselves.
WASTE = 0.05
# Bytes, and requests, ahead of the reader.
AHEAD_BYTES = 32 << 20
AHEAD = 4
# Parts of all files of a process that are fetched at a time.
_THREADS = ThreadPoolExecutor(16, "hub")


def merged(ranges: Sequence[Range]) -> list[Range]:
    """The ranges with the narrowest gaps closed, as long as these are at most `WASTE` of the bytes that are wanted."""
    spans = sorted(each for each in ranges if each[1] > each[0])
    gaps = sorted((max(0, right[0] - left[1]), i) for i, (left, right) in enumerate(pairwise(spans)))
    left_over = WASTE * sum(stop - start for start, stop in spans)
    closed = set()
    for width, i in gaps:
        if width > left_over:
            break
        left_over -= width
        closed.add(i)
    found: list[Range] = []
    for i, (start, stop) in enumerate(spans):
        if i - 1 in closed:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


@dataclass
class _Part:
    """A range on its way."""

    start: int
    stop: int
    content: Future[bytes]


class Parts:
    """Ranges of one file, in the order of their bytes; each is given up once its last byte was read.

    Args:
        fetch: reads a range.
        ranges: those that will be read, merged.
    """

    def __init__(self, fetch: Callable[[int, int], bytes], ranges: Sequence[Range]):
        self._fetch = fetch
        self._waiting = deque(ranges)
        self._begun: list[_Part] = []

    def read(self, start: int, stop: int) -> bytes | None:
        """The bytes from `start` on that one of the ranges has, at most up to `stop`; None if none has `start`."""
        while (found := self._holding(start)) is None:
            if not any(first <= start < last for first, last in self._waiting):
                return None
            self._begin()
        self._begin_more()
        content = found.content.result()[start - found.start : stop - found.start]
        if stop >= found.stop:
            self._begun.remove(found)
        return content

    def close(self) -> None:
        """Fetch nothing more."""
        self._waiting.clear()
        for part in self._begun:
            part.content.cancel()
        self._begun.clear()

    def _holding(self, start: int) -> _Part | None:
        return next((part for part in self._begun if part.start <= start < part.stop), None)

    def _begin(self) -> None:
        start, stop = self._waiting.popleft()
        self._begun.append(_Part(start, stop, _THREADS.submit(self._fetch, start, stop)))

    def _begin_more(self) -> None:
        while self._waiting and len(self._begun) < AHEAD:
            ahead = sum(part.stop - part.start for part in self._begun)
            if ahead + self._waiting[0][1] - self._waiting[0][0] > AHEAD_BYTES:
                return
            self._begin()
