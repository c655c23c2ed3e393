"""What the coordinator has decided and not written yet: a store that does not answer for some seconds stops nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from jobs.parts import State
from jobs.parts.board import Board
from jobs.parts.schedule import Scheduler
from jobs.parts.site import Site


@dataclass
class Outbox:
    """Files of parts that are to be written, and parts that are started once these are written.

    What is written is what the scheduler says at that moment, however long it had to wait.

    Args:
        board: the files of the parts.
        scheduler: which part has which shards.
        site: where the parts run.
    """

    board: Board
    scheduler: Scheduler
    site: Site
    _numbers: dict[int, None] = field(default_factory=dict)
    _unstarted: list[int] = field(default_factory=list)

    def add(self, numbers: Iterable[int]) -> None:
        """The files of these parts are to be written, after those that wait already."""
        self._numbers |= dict.fromkeys(numbers)

    def add_changed(self) -> None:
        """The files of parts that lose shards; before `add_new`, so that no worker begins what another one has."""
        self.add(sorted(self.scheduler.changed))
        self.scheduler.changed.clear()

    def add_new(self, number: int) -> None:
        """A part that is started when its file is written."""
        self.add([number])
        self._unstarted.append(number)

    def start_nothing(self) -> None:
        """Parts that are not started yet stay so."""
        self._unstarted.clear()

    def send(self, states: Mapping[int, State]) -> bool:
        """Write the files, then start the new parts; after an error the next call goes on where this one was.

        Args:
            states: the last that each worker said, by number of the part.

        Returns:
            True: everything was sent. A caller that asks a store again tells this from None, no answer.

        Raises:
            SinkError: the store does not answer.
        """
        self.add_changed()
        for number in list(self._numbers):
            if (part := self.scheduler.running.get(number)) is not None:
                self.board.write(number, part.left.values())
            elif number in states and states[number].end:
                self.board.forget(number)
            else:
                self.board.write(number, ())
            del self._numbers[number]
        while self._unstarted:
            if self._unstarted[0] in self.scheduler.running:
                self.site.start(self._unstarted[0])
            del self._unstarted[0]
        return True
