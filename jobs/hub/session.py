"""The HTTP client that every library of this process uses for the Hub: counts its requests and bytes.

`huggingface_hub` keeps one client a process and lets a program give its own; `datasets`, `transformers` and `peft` use
that one too. Importing this module gives it ours.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

from huggingface_hub import HfApi, constants, set_client_factory
from huggingface_hub.utils import _http, httpx


@dataclass(frozen=True)
class Counted:
    """What this process has asked the Hub for so far.

    Attributes:
        requests: answers received, redirects included.
        received: bytes of their bodies, as their headers state them.
    """

    requests: int = 0
    received: int = 0


def endpoint() -> str:
    """URL of the Hub, without a slash at its end."""
    return constants.ENDPOINT.rstrip("/")


def api() -> HfApi:
    """A client of the Hub's API with the token that huggingface_hub finds."""
    return HfApi(library_name="nightscribe")


def counted() -> Counted:
    """The requests of this process so far."""
    with _LOCK:
        return _COUNTED


_LOCK = threading.Lock()
_COUNTED = Counted()


def _count(response: httpx.Response) -> None:
    global _COUNTED
    size = response.headers.get("Content-Length", "0")
    with _LOCK:
        received = int(size) if size.isdigit() and response.request.method != "HEAD" else 0
        _COUNTED = Counted(_COUNTED.requests + 1, _COUNTED.received + received)


def _client() -> httpx.Client:
    client = _http.default_client_factory()
    client.event_hooks["response"].append(_count)
    return client


set_client_factory(_client)
