"""The files of the parts of a run, as their coordinator writes and reads them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace

from jobs.parts import STATE, Part, Run, State, check, folder, part_file, run_file
from jobs.plan import Plan
from jobs.source import Shard
from jobs.store import Store, names, unchanged

LOG = logging.getLogger(__name__)


class Board:
    """The parts of one run.

    Args:
        store: the sink's.
        plan: the run.
    """

    def __init__(self, store: Store, plan: Plan):
        self.store, self.run_id = store, plan.run_id
        self._known: dict[str, tuple[str, State | None]] = {}
        run = Run(replace(plan, shards=(), todo={}).to_json(), check.versions(), os.getcwd())
        store.put(run_file(self.run_id), run.to_json())

    def write(self, number: int, shards: Iterable[Shard]) -> None:
        """Write which shards a part has; none ends it."""
        self.store.put(part_file(self.run_id, number), Part(number, tuple(shards)).to_json())

    def states(self) -> list[State]:
        """What the workers have said, by number of the part; files that have not changed are not read again."""
        found = unchanged.read(
            self.store, folder(self.run_id), lambda name: name.endswith(STATE), self._read, self._known
        )
        return [state for state in found.values() if state is not None]

    def last(self) -> int:
        """The highest number of a part; 0 if there is none. An earlier attempt at the run may have left some."""
        stems = (name.rsplit("/", 1)[-1].partition(".")[0] for name in self.store.names(folder(self.run_id)))
        return max((int(stem) for stem in stems if stem.isdigit()), default=0)

    def clear_others(self) -> None:
        """Delete the files of other runs, which have lost the sink to this one; workers that still live end then."""
        for name in self.store.find(".json", names.PARTS):
            if not name.startswith(f"{folder(self.run_id)}/"):
                self.store.delete(name)

    def clear(self) -> None:
        """Delete the files of the run."""
        for name in self.store.names(folder(self.run_id)):
            self.store.delete(name)

    def _read(self, name: str) -> State | None:
        try:
            return State.from_json(self.store.get(name))
        except ValueError:
            LOG.warning("%s/%s is damaged; it is written again within seconds", self.store.url, name)
            return None
