"""Which shards the next part gets: the rules alone, without I/O and without a clock, so that they can be simulated.

Parts take about PART_S seconds, so that the end of a machine costs little, and get smaller towards the end of the run
(guided self-scheduling: Polychronopoulos and Kuck, 1987). Once no shard is left to hand out, an idle worker gets half
of what the busiest part has not begun; and a shard that takes several times as long as expected is done by a second
worker too (backup tasks: Dean and Ghemawat, "MapReduce", 2004). Whoever is first counts; the ledger takes care of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from jobs.parts import Part
from jobs.source import Shard

# Seconds of a part, as far as the rate is known: between 10 and 20 minutes.
PART_S = 900.0
# A smaller part does not pay: a worker needs some seconds to start a process, import and load the models.
LEAST_S = 30.0
# Of what is left, each of n workers gets the share 1 / (SHARES n).
SHARES = 2
# A second worker does a shard if the first one takes so many times as long as expected.
LATE = 3.0
# How often a shard may be begun by a worker that is then lost, or fail, before the run ends.
MAX_ATTEMPTS = 3


@dataclass
class Running:
    """A part that a worker has, or will have once there is one.

    Attributes:
        number: of the part.
        left: slot -> shard, in the order in which the worker does them; without those that are done.
        since: when it was handed out, by the clock of the coordinator.
        current: slot of the shard that its worker is doing.
        current_since: when the coordinator first saw that.
    """

    number: int
    left: dict[str, Shard]
    since: float
    current: str | None = None
    current_since: float = 0.0


@dataclass
class Scheduler:
    """Hands out shards in parts until all are done.

    Args:
        shards: those to do.
        costs: of each of them: seconds of one worker, or anything that is proportional to it.
        in_seconds: whether the costs are seconds.
        parts: how many parts of equal cost to make; None: as many as the rules above make.
        part_s: seconds of a part.
        least_s: seconds of the smallest part.
        last: number of the last part of an earlier attempt at the run.

    Attributes:
        queue: shards that no part has, the most expensive ones first.
        running: parts by number.
        changed: parts that have lost shards to another one, whose files are to be written again.
        attempts: how often a shard was begun and not done.
    """

    shards: Sequence[Shard]
    costs: Sequence[float]
    in_seconds: bool = False
    parts: int | None = None
    part_s: float = PART_S
    least_s: float = LEAST_S
    last: int = 0
    queue: list[Shard] = field(default_factory=list)
    running: dict[int, Running] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    attempts: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        # Without a cost, every shard counts the same.
        self._cost = {s.slot: max(float(c), 1e-9) for s, c in zip(self.shards, self.costs, strict=True)}
        self._seconds = self._measured = 0.0
        self._backed_up: set[str] = set()
        self._queued = set(self._cost)
        self._share = sum(self._cost.values()) / self.parts if self.parts else 0.0
        # A large shard that begins last would be waited for by everyone.
        self.queue = sorted(self.shards, key=lambda shard: -self._cost[shard.slot])

    @property
    def is_finished(self) -> bool:
        """Whether every shard is done."""
        return len(self.done) == len(self._cost)

    @property
    def seconds_per_cost(self) -> float | None:
        """Seconds that a worker needs for a cost of one; None if it is not known yet."""
        if self._measured:
            return self._seconds / self._measured
        return 1.0 if self.in_seconds else None

    def expected_s(self, slots: Sequence[str]) -> float | None:
        """Seconds that a worker needs for some shards; None if it is not known yet."""
        each = self.seconds_per_cost
        return None if each is None else each * sum(self._cost[slot] for slot in slots)

    def next(self, now: float, workers: int) -> Part | None:
        """A part for an idle worker, or None if it has nothing to do.

        Args:
            now: seconds, by the clock of the coordinator.
            workers: how many there are, the idle ones included.
        """
        if self.queue:
            return self._start(self._from_queue(workers), now)
        if stolen := self._stolen():
            return self._start(stolen, now)
        if (late := self._late(now)) is not None:
            self._backed_up.add(late.slot)
            return self._start([late], now)
        return None

    def see(self, number: int, current: str | None, now: float) -> None:
        """Note which shard the worker of a part is doing."""
        part = self.running.get(number)
        if part is not None and part.current != current:
            part.current, part.current_since = current, now

    def finish(self, slot: str, seconds: float | None = None) -> None:
        """Note that a shard is done.

        Args:
            slot: the shard.
            seconds: how long it took; None if it is not known.
        """
        if slot not in self._cost or slot in self.done:
            return
        self.done.add(slot)
        if seconds is not None:
            self._seconds += seconds
            self._measured += self._cost[slot]
        if slot in self._queued:
            self.queue = [shard for shard in self.queue if shard.slot != slot]
            self._queued.discard(slot)
        for part in self.running.values():
            if part.left.pop(slot, None) is not None and part.current == slot and len(part.left) == 0:
                part.current = None

    def end(self, number: int, blame: bool = False) -> list[str]:
        """Note that a part has ended; what it has not done is handed out again.

        Args:
            number: the part.
            blame: whether the shard that it was doing may be the reason.

        Returns:
            The shard that has been begun too often, if there is one.
        """
        part = self.running.pop(number, None)
        if part is None:
            return []
        self.changed.discard(number)
        elsewhere = {slot for other in self.running.values() for slot in other.left}
        back = [shard for slot, shard in part.left.items() if slot not in elsewhere and slot not in self.done]
        self._backed_up -= set(part.left)
        self.queue = sorted([*self.queue, *back], key=lambda shard: -self._cost[shard.slot])
        self._queued |= {shard.slot for shard in back}
        if not blame or part.current is None or part.current in self.done:
            return []
        self.attempts[part.current] += 1
        return [part.current] if self.attempts[part.current] >= MAX_ATTEMPTS else []

    def _start(self, shards: Sequence[Shard], now: float) -> Part:
        self.last += 1
        self.running[self.last] = Running(self.last, {shard.slot: shard for shard in shards}, now)
        return Part(self.last, tuple(shards))

    def _from_queue(self, workers: int) -> list[Shard]:
        left = sum(self._cost[shard.slot] for shard in self.queue)
        each = self.seconds_per_cost
        if self.parts:
            wanted = self._share
        elif each is None:
            # A guess, so that every worker soon tells how fast it is.
            wanted = left / (8 * SHARES * max(1, workers))
        else:
            wanted = min(max(left / (SHARES * max(1, workers)), self.least_s / each), self.part_s / each)
        taken, cost = 0, 0.0
        # At least one; then as long as half of the next one still fits.
        while taken < len(self.queue) and (not taken or cost + self._cost[self.queue[taken].slot] / 2 <= wanted):
            cost += self._cost[self.queue[taken].slot]
            taken += 1
        found, self.queue = self.queue[:taken], self.queue[taken:]
        self._queued -= {shard.slot for shard in found}
        return found

    def _stolen(self) -> list[Shard]:
        """Half of what the busiest part has not begun, from its end."""
        best: tuple[float, Running, list[Shard]] | None = None
        for part in self.running.values():
            # What it does next may have begun since it was last heard of.
            slots = list(part.left)
            begun = slots.index(part.current) + 1 if part.current in part.left else 0
            free = [part.left[slot] for slot in slots[begun:]]
            cost = sum(self._cost[shard.slot] for shard in free)
            if free and (best is None or cost > best[0]):
                best = cost, part, free
        if best is None:
            return []
        cost, part, free = best
        stolen: list[Shard] = []
        while free and (not stolen or sum(self._cost[s.slot] for s in stolen) + self._cost[free[-1].slot] <= cost / 2):
            stolen.insert(0, free.pop())
        expected = self.expected_s([shard.slot for shard in stolen])
        waits = part.current is None
        if waits or expected is None or expected < self.least_s / 2:
            # Its worker is done with them before another one has started.
            return []
        for shard in stolen:
            del part.left[shard.slot]
        self.changed.add(part.number)
        return stolen

    def _late(self, now: float) -> Shard | None:
        """The shard that is the latest of those that take much longer than expected."""
        late: tuple[float, Shard] | None = None
        for part in self.running.values():
            slot = part.current
            if slot is None or slot in self._backed_up or slot not in part.left:
                continue
            expected = self.expected_s([slot])
            took = now - part.current_since
            if expected is None or took < max(LATE * expected, self.least_s):
                continue
            if late is None or took / expected > late[0]:
                late = took / expected, part.left[slot]
        return None if late is None else late[1]

    def parts_left(self) -> int | None:
        """About how many more parts there will be; None if it is not known yet."""
        seconds = self.expected_s([shard.slot for shard in self.queue])
        return None if seconds is None else math.ceil(seconds / self.part_s)
