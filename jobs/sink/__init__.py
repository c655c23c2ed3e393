"""Where enriched rows go: a run stages shards, then commits them together.

A sink is any object with the methods of `Sink`; `open_sink` chooses one for a job.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import BinaryIO, Protocol

from jobs.plan import Plan
from jobs.sink.entry import Entry
from jobs.sink.folder import FolderSink
from jobs.sink.part import PartWriter
from jobs.sink.repository import Mirror
from jobs.source import Shard
from jobs.spec import SinkSpec
from jobs.store import Store, check

__all__ = ["Entry", "PartWriter", "Sink", "open_sink"]


class Sink(Protocol):
    """Takes shards one by one and publishes them together.

    Attributes:
        store: the folder with its files.
    """

    store: Store

    @property
    def lost(self) -> frozenset[str]:
        """Slots of published shards whose part files were gone when `entries` last looked."""
        ...

    def entries(self, plan: Plan | None = None) -> dict[str, Entry]:
        """The entries of finished shards by slot, published or staged; of both, the one that fits the plan."""
        ...

    def published_entries(self) -> dict[str, Entry]:
        """The entries of the shards that readers see, by slot."""
        ...

    def donor_entries(self) -> dict[str, Entry]:
        """The entries whose rows results can be taken from, by slot."""
        ...

    def moved_files(self) -> set[str]:
        """Source files whose rows another writer has moved; one of `donor_entries` stands for all these rows."""
        ...

    def entry(self, slot: str) -> Entry | None:
        """The entry of one slot."""
        ...

    def writer(self, plan: Plan, shard: Shard) -> PartWriter:
        """A writer that stages one shard."""
        ...

    def open(self, entry: Entry) -> BinaryIO:
        """Open the part file of an entry for reading."""
        ...

    def open_part(self, name: str) -> BinaryIO:
        """Open a published part file by its name."""
        ...

    def superseded(self, plan: Plan) -> list[Entry]:
        """Published entries that the commit of the plan removes together with their rows."""
        ...

    def moved(self, plan: Plan) -> set[str]:
        """Slots of the shards that a plan has to do again because another writer has rewritten their files."""
        ...

    def commit(self, plan: Plan, check: Callable[[Mapping[str, Entry]], None]) -> list[Entry]:
        """Publish the staged shards, after `check`; returns the entries that were removed together with their rows."""
        ...


def open_sink(spec: SinkSpec, store: Store | None = None) -> FolderSink:
    """The sink of a job.

    Args:
        spec: the job file's section.
        store: its folder, if it is open already.

    Raises:
        SpecError: the path is on a filesystem that cannot hold a sink.
    """
    store = store or Store(spec.path)
    check(store)
    mirror = None if spec.dataset is None else Mirror(spec, store)
    return FolderSink(store, mirror, table=None if spec.table is None else spec)
