"""Which shards the next part gets: the rules alone, without I/O and without a clock, so that they can be simulated.

Parts take about PART_S seconds, so that the end of a machine costs little, and get smaller towards the end of the run
(guided self-scheduling: Polychronopoulos and Kuck, 1987). Once no shard is left to hand out, an idle worker gets half
of what the busiest part has not begun; and a shard that takes several times as long as expected is done by a second
worker too (backup tasks: Dean and Ghemawat, "MapReduce", 2004). Whoever is first counts; the ledger takes care of it.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter
from collections.abc import Iterable, Sequence
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
# How often a shard may be begun and not done before the run ends: if it failed at last; if its worker was lost, which
# happens by chance to long shards on spot machines (three were too few for 20,000 shards of a minute on machines that
# last an hour, see `tests/bench/simulate.py`); if its worker was asked to stop.
MAX_FAILED, MAX_LOST, MAX_STOPPED = 3, 5, 10
# More shards do not get into a part: a worker reads the list before each of them, and writes what it has done after it.
MAX_SHARDS = 1000


@dataclass
class Running:
    """A part that a worker has, or will have once there is one.

    Attributes:
        number: of the part.
        left: slot -> shard, in the order in which the worker does them; without those that are done.
        cost: of the shards that are left.
        since: when it was handed out, by the clock of the coordinator.
        current: slot of the shard that its worker is doing.
        current_since: when the coordinator first saw that.
    """

    number: int
    left: dict[str, Shard]
    cost: float
    since: float
    current: str | None = None
    current_since: float = 0.0


@dataclass
class Scheduler:
    """Hands out shards in parts until all are done. Each call takes a time that hardly grows with the shards.

    Args:
        shards: those to do.
        costs: of each of them: seconds of one worker, or anything that is proportional to it.
        in_seconds: whether the costs are seconds.
        parts: how many parts of equal cost to make; None: as many as the rules above make.
        part_s: seconds of a part.
        least_s: seconds of the smallest part.
        shares: of what is left, each of n workers gets the share 1 / (shares n).
        late: a second worker does a shard after so many times the expected seconds; infinite: never.
        steals: whether an idle worker gets shards of another one's part.
        last: number of the newest part.

    Attributes:
        running: parts by number.
        changed: parts that have lost shards to another one, whose files are to be written again.
        begun: how often a shard was begun and not done, whatever the reason.
        done: the slots of the shards that are done.
    """

    shards: Sequence[Shard]
    costs: Sequence[float]
    in_seconds: bool = False
    parts: int | None = None
    part_s: float = PART_S
    least_s: float = LEAST_S
    shares: float = SHARES
    late: float = LATE
    steals: bool = True
    last: int = 0
    running: dict[int, Running] = field(default_factory=dict)
    changed: set[int] = field(default_factory=set)
    begun: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        # Without a cost, every shard counts the same.
        self._cost = {s.slot: max(float(c), 1e-9) for s, c in zip(self.shards, self.costs, strict=True)}
        self._shard = {shard.slot: shard for shard in self.shards}
        self._seconds = self._measured = 0.0
        self._backed_up: set[str] = set()
        self._holders: dict[str, set[int]] = {}
        self._share = sum(self._cost.values()) / self.parts if self.parts else 0.0
        # A large shard that begins last would be waited for by everyone. Shards that have left the queue stay in the
        # heap until they are met there; `_queued` says which ones are still queued.
        self._heap: list[tuple[float, int, str]] = []
        self._queued: set[str] = set()
        self._order = {slot: i for i, slot in enumerate(self._cost)}
        self._left = 0.0
        self._put_back(self._cost)

    @property
    def is_finished(self) -> bool:
        """Whether every shard is done."""
        return len(self.done) == len(self._cost)

    @property
    def queue(self) -> list[Shard]:
        """Shards that no part has, the most expensive ones first."""
        return [self._shard[slot] for slot in sorted(self._queued, key=self._rank)]

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
        if self._queued:
            return self._start(self._from_queue(workers), now)
        if self.steals and (stolen := self._stolen()):
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

    def finish(self, slot: str, seconds: float | None = None, by: int | None = None) -> None:
        """Note that a shard is done.

        Args:
            slot: the shard.
            seconds: how long it took; None if it is not known.
            by: the part whose worker did it; if others are doing it too, they need not end it.
        """
        if slot not in self._cost or slot in self.done:
            return
        self.done.add(slot)
        if seconds is not None:
            # A clock may be coarse.
            self._seconds += max(seconds, 0.0)
            self._measured += self._cost[slot]
        self._take(slot)
        for number in self._holders.pop(slot, ()):
            part = self.running[number]
            self._drop(part, slot)
            if number != by and part.current == slot:
                self.changed.add(number)

    def end(self, number: int, most: int = MAX_STOPPED) -> list[str]:
        """Note that a part has ended; what it has not done is handed out again.

        Args:
            number: the part.
            most: how often the shard that it was doing may have been begun.

        Returns:
            The shard that has been begun too often, if there is one.
        """
        part = self.running.pop(number, None)
        if part is None:
            return []
        self.changed.discard(number)
        for slot in part.left:
            self._holders[slot].discard(number)
        self._put_back(slot for slot in part.left if not self._holders[slot])
        self._backed_up -= set(part.left)
        # A shard that was taken from the part is not the reason.
        if part.current is None or part.current not in part.left:
            return []
        self.begun[part.current] += 1
        return [part.current] if self.begun[part.current] >= most else []

    def key(self, slot: str) -> str:
        """The source file of a shard."""
        return self._shard[slot].key

    def parts_left(self) -> int | None:
        """About how many more parts there will be; None if it is not known yet."""
        each = self.seconds_per_cost
        return None if each is None else math.ceil(each * self._left / self.part_s)

    def _start(self, shards: Sequence[Shard], now: float) -> Part:
        self.last += 1
        cost = sum(self._cost[shard.slot] for shard in shards)
        self.running[self.last] = Running(self.last, {shard.slot: shard for shard in shards}, cost, now)
        for shard in shards:
            self._holders.setdefault(shard.slot, set()).add(self.last)
        return Part(self.last, tuple(shards))

    def _rank(self, slot: str) -> tuple[float, int, str]:
        return -self._cost[slot], self._order[slot], slot

    def _put_back(self, slots: Iterable[str]) -> None:
        for slot in slots:
            self._queued.add(slot)
            self._left += self._cost[slot]
            heapq.heappush(self._heap, self._rank(slot))

    def _take(self, slot: str) -> None:
        """A shard leaves the queue, if it is there."""
        if slot in self._queued:
            self._queued.discard(slot)
            # Sums of floats drift.
            self._left = max(0.0, self._left - self._cost[slot]) if self._queued else 0.0

    def _drop(self, part: Running, slot: str) -> None:
        """A shard leaves a part."""
        del part.left[slot]
        part.cost = max(0.0, part.cost - self._cost[slot]) if part.left else 0.0

    def _first(self) -> str | None:
        """The most expensive shard of the queue."""
        while self._heap and self._heap[0][2] not in self._queued:
            heapq.heappop(self._heap)
        return self._heap[0][2] if self._heap else None

    def _from_queue(self, workers: int) -> list[Shard]:
        each = self.seconds_per_cost
        if self.parts:
            wanted = self._share
        elif each is None:
            # A guess, so that every worker soon tells how fast it is.
            wanted = self._left / (8 * self.shares * max(1, workers))
        else:
            share = self._left / (self.shares * max(1, workers))
            wanted = min(max(share, self.least_s / each), self.part_s / each) if each else share
        found: list[Shard] = []
        cost = 0.0
        # At least one; then as long as half of the next one still fits.
        while len(found) < MAX_SHARDS and (slot := self._first()) is not None:
            if found and cost + self._cost[slot] / 2 > wanted:
                break
            cost += self._cost[slot]
            self._take(slot)
            found.append(self._shard[slot])
        return found

    def _stolen(self) -> list[Shard]:
        """Half of what the busiest part has not begun, from its end."""
        best: tuple[float, Running] | None = None
        for part in self.running.values():
            # A part whose worker has not begun: its shards are done before another one has started.
            if part.current is None or not part.left:
                continue
            cost = part.cost - (self._cost[part.current] if part.current in part.left else 0.0)
            if best is None or cost > best[0]:
                best = cost, part
        if best is None:
            return []
        part = best[1]
        slots = list(part.left)
        begun = slots.index(part.current) + 1 if part.current in part.left else 0
        free = [part.left[slot] for slot in slots[begun:]]
        half = sum(self._cost[shard.slot] for shard in free) / 2
        stolen: list[Shard] = []
        cost = 0.0
        while free and len(stolen) < MAX_SHARDS and (not stolen or cost + self._cost[free[-1].slot] <= half):
            cost += self._cost[free[-1].slot]
            stolen.append(free.pop())
        each = self.seconds_per_cost
        if each is None or each * cost < self.least_s / 2:
            # Its worker is done with them before another one has started.
            return []
        for shard in stolen:
            self._drop(part, shard.slot)
            self._holders[shard.slot].discard(part.number)
        self.changed.add(part.number)
        return stolen[::-1]

    def _late(self, now: float) -> Shard | None:
        """The shard that is the latest of those that take much longer than expected."""
        late: tuple[float, Shard] | None = None
        for part in self.running.values():
            slot = part.current
            if slot is None or slot in self._backed_up or slot not in part.left:
                continue
            expected = self.expected_s([slot])
            took = now - part.current_since
            if not expected or took < max(self.late * expected, self.least_s):
                continue
            if late is None or took / expected > late[0]:
                late = took / expected, part.left[slot]
        return None if late is None else late[1]
