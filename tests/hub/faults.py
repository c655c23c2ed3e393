"""Faults on demand: a rule matches requests by their path and is used up after some times."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["status", "cut", "slow", "corrupt", "content", "ignore-range"]


@dataclass
class Fault:
    """What is done to a matching request.

    Attributes:
        kind: status (another answer), cut (the connection ends after some bytes of the body), slow, corrupt (a byte of
            the body is changed), content (another body), ignore-range (200 with the whole file).
        path: regular expression that is searched in `METHOD /path?query`. The content of a file of git-lfs comes from
            the storage: `sig=read` is in its query, and the name of the file. `/resolve/` only redirects to it.
        times: how many requests it is done to; None for all.
    """

    kind: Kind
    path: str
    times: int | None = 1
    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    after: int = 0
    bytes_per_s: int = 0
    done: int = 0


class Faults:
    """The rules of a Hub, in order; of those that match a request the first is used."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self.expired_tokens: set[str] = set()
        self.lock = threading.Lock()

    def status(
        self, status: int, path: str, times: int | None = 1, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Fault:
        """Answer with this status."""
        return self._add(Fault("status", path, times, status=status, headers=headers or {}, body=body))

    def cut(self, path: str, after: int, times: int | None = 1) -> Fault:
        """End the connection after so many bytes of the body."""
        return self._add(Fault("cut", path, times, after=after))

    def slow(self, path: str, bytes_per_s: int, times: int | None = None) -> Fault:
        """Send the body slowly."""
        return self._add(Fault("slow", path, times, bytes_per_s=bytes_per_s))

    def corrupt(self, path: str, times: int | None = 1) -> Fault:
        """Change a byte in the middle of the body."""
        return self._add(Fault("corrupt", path, times))

    def changes(self, path: str, content: bytes, times: int | None = None) -> Fault:
        """Send another content, with the ETag of that content: the file was replaced between two requests."""
        return self._add(Fault("content", path, times, body=content))

    def ignores_ranges(self, path: str = "", times: int | None = None) -> Fault:
        """Answer a request for a range with the whole file."""
        return self._add(Fault("ignore-range", path, times))

    def expired(self, token: str) -> None:
        """Refuse a token from now on."""
        self.expired_tokens.add(token)

    def clear(self) -> None:
        """Remove all rules."""
        with self.lock:
            self.rules.clear()
            self.expired_tokens.clear()

    def match(self, request: str) -> Fault | None:
        """The fault of a request, which is used up by it."""
        with self.lock:
            for rule in self.rules:
                if (rule.times is None or rule.done < rule.times) and re.search(rule.path, request):
                    rule.done += 1
                    return rule
        return None

    def _add(self, fault: Fault) -> Fault:
        with self.lock:
            self.rules.append(fault)
        return fault
