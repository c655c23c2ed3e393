"""Requests to a Prefect server that may be away for a while: its absence is noted, and raises nothing."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectException
from prefect.settings import PREFECT_API_REQUEST_TIMEOUT, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

T = TypeVar("T")

# Who asks also has other things to do, and asks again later.
SETTINGS = {PREFECT_CLIENT_MAX_RETRIES: 0, PREFECT_API_REQUEST_TIMEOUT: 20.0}


class Requests:
    """Requests of one process.

    Args:
        clock: seconds; never set back.

    Attributes:
        error: why the server did not answer the last time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self.clock = clock
        self.error = ""
        self._since: float | None = None

    def ask(self, request: Callable[[SyncPrefectClient], T]) -> T | None:
        """What the server answers; None if it does not, or if it does not have what is asked for."""
        try:
            with temporary_settings(SETTINGS), get_client(sync_client=True) as client:
                answer: T | None = request(client)
        except ObjectNotFound:
            answer = None
        except (httpx.HTTPError, PrefectException) as error:
            self.error = str(error).partition("\n")[0] or type(error).__name__
            self._since = self.clock() if self._since is None else self._since
            return None
        self._since = None
        return answer

    def silent_s(self) -> float:
        """For how many seconds the server has not answered; 0 if it has answered the last time."""
        return 0.0 if self._since is None else self.clock() - self._since
