"""The progress of a run: each worker process writes its totals to its own small file; the watcher adds them up."""

from __future__ import annotations

import json
import logging
import os
import socket
import time
import uuid
from dataclasses import asdict, dataclass, field, fields

from pydantic import TypeAdapter

from jobs.hub import session
from jobs.store import Store, names, requests
from jobs.store.requests import Counted

LOG = logging.getLogger(__name__)

EVERY_S = 1.0


@dataclass
class Progress:
    """Totals of a run, or of one of its workers.

    Attributes:
        rows_in: rows that have passed all tasks, rejected ones included.
        rows_rejected: rows rejected.
        shards: shards published.
        tokens: real tokens computed.
        padded_tokens: token positions computed, including padding.
        hub_requests: requests to the Hub.
        hub_bytes: bytes received from the Hub.
        store_requests: requests to object stores.
    """

    rows_in: int = 0
    rows_rejected: int = 0
    shards: int = 0
    tokens: int = 0
    padded_tokens: int = 0
    hub_requests: int = 0
    hub_bytes: int = 0
    store_requests: Counted = field(default_factory=Counted)

    def add(self, other: Progress) -> None:
        """Add another's totals."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


_FORM = TypeAdapter(Progress)


class Timeline:
    """Samples (seconds since the start, rows, tokens) of a run, thinned evenly so that a long run fits a report."""

    MAX_SAMPLES = 240

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.samples: list[tuple[float, int, int]] = []
        self.every = self.seen = 0

    def add(self, progress: Progress) -> None:
        """Take a sample, or skip it if there are many."""
        if self.seen % (self.every + 1) == 0:
            self.samples.append((round(time.monotonic() - self.started, 2), progress.rows_in, progress.tokens))
        self.seen += 1
        if len(self.samples) > self.MAX_SAMPLES:
            self.samples, self.every = self.samples[::2], 2 * self.every + 1


class Heartbeat:
    """One worker's totals, written to the sink at most every second."""

    def __init__(self, store: Store, run_id: str):
        self.store = store
        self.name = f"{folder(run_id)}/{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}.json"
        self.total = Progress()
        self.written = 0.0

    def add(self, progress: Progress) -> None:
        """Add to the totals; write them if the last write was at least a second ago."""
        self.total.add(progress)
        asked = session.taken()
        stored = requests.taken()
        self.total.add(Progress(hub_requests=asked.requests, hub_bytes=asked.received, store_requests=stored))
        if time.monotonic() - self.written >= EVERY_S:
            self.write()

    def write(self) -> None:
        """Write the totals now."""
        self.written = time.monotonic()
        self.store.put(self.name, json.dumps(asdict(self.total)).encode())


def read(store: Store, run_id: str) -> Progress:
    """The totals of all workers so far; a damaged file does not count, because the ledger has the true numbers."""
    total = Progress()
    for name in store.names(folder(run_id)):
        try:
            total.add(_FORM.validate_json(store.get(name)))
        except ValueError:
            LOG.warning("%s/%s is damaged, so the progress shown is too small", store.url, name)
    return total


def folder(run_id: str) -> str:
    """The folder of the progress files of a run."""
    return f"{names.PROGRESS}/{run_id}"
