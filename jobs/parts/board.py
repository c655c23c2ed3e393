"""The files of the parts of a run, as their coordinator writes and reads them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import replace

from jobs.parts import STATE, Part, Run, State, check, folder, part_file, run_file, state_file, timeline
from jobs.parts.timeline import Timeline
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
        """The highest number of a part of this run; 0 if there is none. An earlier attempt at it may have left some."""
        stems = (name.rsplit("/", 1)[-1].partition(".")[0] for name in self.store.names(folder(self.run_id)))
        known = (timeline.read(self.store, self.run_id) or Timeline()).part_numbers
        return max([0, *known, *(int(stem) for stem in stems if stem.isdigit())])

    def timeline(self) -> Timeline:
        """What is known of the night so far: of earlier attempts at the run, and of runs that were killed or failed."""
        made = Timeline()
        for run_id in self._others():
            # In the order of their names, which is that of time.
            states = [self._read(name) for name in self.store.find(STATE, folder(run_id))]
            found = timeline.read(self.store, run_id) or Timeline()
            made = made.followed_by(timeline.left(found, [state for state in states if state is not None]))
        return made.followed_by(timeline.read(self.store, self.run_id) or Timeline())

    def record(self, made: Timeline) -> None:
        """Keep who has done what so far."""
        timeline.write(self.store, self.run_id, made)

    def forget(self, number: int) -> None:
        """Delete the files of a part whose worker has said that it ended, so that a long run lists few files."""
        self.store.delete(part_file(self.run_id, number))
        self.store.delete(state_file(self.run_id, number))

    def clear_others(self) -> None:
        """Delete the files of other runs, which have lost the sink to this one; workers that still live end then."""
        for name in self.store.find(".json", names.PARTS):
            if not name.startswith(f"{folder(self.run_id)}/"):
                self.store.delete(name)

    def clear(self) -> None:
        """Delete the files of the run."""
        self.store.delete_all(folder(self.run_id))

    def _others(self) -> list[str]:
        """Other runs that have left files of parts, oldest first."""
        found = {name.removeprefix(f"{names.PARTS}/").split("/")[0] for name in self.store.find(".json", names.PARTS)}
        return sorted(found - {self.run_id})

    def _read(self, name: str) -> State | None:
        try:
            return State.from_json(self.store.get(name))
        except ValueError:
            LOG.warning("%s/%s is damaged; it is written again within seconds", self.store.url, name)
            return None
