"""Workers and board files that exist only as events of a virtual clock, with the protocols of the real ones."""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from jobs.parts import Done, State
from jobs.parts.timeline import Timeline
from jobs.source import Shard

# As `jobs.parts.worker` has it for a sink on a local disk.
BEAT_S = 2.0


@dataclass(frozen=True)
class Conditions:
    """What happens to workers.

    Attributes:
        speeds: of each worker: 0.5 takes twice the seconds.
        start_s: seconds from the start of a part to its first shard: a process, imports, models.
        life_s: mean seconds until a machine vanishes (exponential); infinite: never.
        replace_s: seconds until another machine takes its place.
        notice_s: seconds until the site knows of it; infinite: never, unless the worker has not said anything yet.
        straggle: share of executions that take `straggle_times` as long.
        straggle_times: see there.
        refuse: share of parts that are refused.
        fail: share of executions that fail.
        wakes_s: seconds after which the coordinator looks again at the latest, whatever it asks for.
        outages: (from, to) in seconds: when the store does not answer the coordinator.
    """

    speeds: tuple[float, ...]
    start_s: float = 20.0
    life_s: float = math.inf
    replace_s: float = 120.0
    notice_s: float = 30.0
    straggle: float = 0.0
    straggle_times: float = 10.0
    refuse: float = 0.0
    fail: float = 0.0
    wakes_s: float = math.inf
    outages: tuple[tuple[float, float], ...] = ()


@dataclass
class _Machine:
    """A place for one worker.

    Attributes:
        speed: see `Conditions`.
        part: number of the part that its worker has; None: idle.
        is_up: whether there is a machine.
    """

    speed: float
    part: int | None = None
    is_up: bool = True


@dataclass
class _Worker:
    """The process of a part.

    Attributes:
        machine: where it runs.
        began: when it was started.
        todo: shards as its file had them then.
        done: those that it has done.
        said: when it began to say something; None before.
        current: the shard that it is doing, and when that began.
    """

    machine: _Machine
    began: float
    todo: deque[str] = field(default_factory=deque)
    done: list[Done] = field(default_factory=list)
    said: float | None = None
    current: tuple[str, float] | None = None


class VirtualSite:
    """A site and a board in one.

    Args:
        seconds: of each shard by its slot, on a worker of speed 1.
        conditions: what happens.
        chance: decides what is random.

    Attributes:
        now: seconds since the start.
        busy_s: seconds in which processes of parts ran, of all workers.
        computed_s: seconds of shards that were done, the second time included.
        last_done: when the last shard was done.
        executed: slot -> how often it was done to its end.
        started: number of parts that a worker began.
        vanished: number of machines that vanished.
    """

    def __init__(self, seconds: Mapping[str, float], conditions: Conditions, chance: random.Random):
        self.seconds, self.conditions, self.chance = seconds, conditions, chance
        self.now = self.busy_s = self.computed_s = self.last_done = 0.0
        self.executed: dict[str, int] = {}
        self.started = self.vanished = 0
        self.machines = [_Machine(speed) for speed in conditions.speeds]
        self.files: dict[int, dict[str, None]] = {}
        self.running: dict[int, _Worker] = {}
        self.queue: deque[int] = deque()
        self._ended: dict[int, State] = {}
        self._gone: dict[int, str] = {}
        self._number = itertools.count()
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        for machine in self.machines:
            self._let_live(machine)

    # The board.

    def write(self, number: int, shards: Iterable[Shard]) -> None:
        self._answer()
        self.files[number] = dict.fromkeys(shard.slot for shard in shards)
        if number in self.running:
            self._at(BEAT_S, lambda: self._drop(number))

    def last(self) -> int:
        return 0

    def clear_others(self) -> None:
        pass

    def timeline(self) -> Timeline:
        return Timeline()

    def record(self, made: Timeline) -> None:
        self._answer()

    def forget(self, number: int) -> None:
        self._answer()
        self.files[number] = {}

    def states(self) -> list[State]:
        self._answer()
        ended, self._ended = self._ended, {}
        for number, worker in self.running.items():
            if worker.said is not None:
                ended[number] = self._state(number, worker)
        return list(ended.values())

    # The site.

    def workers(self) -> int:
        return sum(machine.is_up for machine in self.machines)

    def start(self, number: int) -> None:
        self.queue.append(number)
        self._assign()

    def gone(self) -> dict[int, str]:
        gone, self._gone = self._gone, {}
        return gone

    def stop(self, number: int) -> None:
        if number in self.queue:
            self.queue.remove(number)
        if number in self.running:
            self._at(1.0, lambda: self._end(number, "stopped") if number in self.running else None)

    def avoid(self, number: int) -> bool:
        return False

    def complaint(self) -> str | None:
        return None

    def wait(self, seconds: float) -> None:
        until = self.now + min(seconds, self.conditions.wakes_s)
        while self._events and self._events[0][0] <= until:
            self.now, _, happen = heapq.heappop(self._events)
            happen()
        self.now = until

    # What happens.

    def _answer(self) -> None:
        if any(begin <= self.now < end for begin, end in self.conditions.outages):
            raise OSError("the store does not answer")

    def _at(self, seconds: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + seconds, next(self._number), happen))

    def _let_live(self, machine: _Machine) -> None:
        if math.isfinite(self.conditions.life_s):
            self._at(self.chance.expovariate(1 / self.conditions.life_s), lambda: self._vanish(machine))

    def _vanish(self, machine: _Machine) -> None:
        self.vanished += 1
        machine.is_up = False
        if (number := machine.part) is not None:
            worker = self._free(number)
            if worker.said is not None:
                self._ended[number] = self._state(number, worker)
            notice_s = self.conditions.notice_s if worker.said is not None else min(self.conditions.notice_s, 300.0)
            if math.isfinite(notice_s):
                self._at(notice_s, lambda: self._gone.update({number: "its machine has vanished"}))
        self._at(self.conditions.replace_s, lambda: self._come_back(machine))

    def _come_back(self, machine: _Machine) -> None:
        machine.is_up = True
        self._let_live(machine)
        self._assign()

    def _assign(self) -> None:
        for machine in self.machines:
            if not self.queue:
                return
            if machine.is_up and machine.part is None:
                number = machine.part = self.queue.popleft()
                self.running[number] = _Worker(machine, self.now)
                self.started += 1
                self._at(self.conditions.start_s, partial(self._begin, number))

    def _begin(self, number: int) -> None:
        if (worker := self.running.get(number)) is None:
            return
        worker.said, worker.todo = self.now, deque(self.files[number])
        if self.chance.random() < self.conditions.refuse:
            self._end(number, "refused", "UnfitWorker")
            return
        self._go_on(number)

    def _go_on(self, number: int) -> None:
        worker = self.running[number]
        while worker.todo:
            slot = worker.todo.popleft()
            if slot in self.files[number]:
                worker.current = slot, self.now
                takes_s = self.seconds[slot] / worker.machine.speed
                if self.chance.random() < self.conditions.straggle:
                    takes_s *= self.conditions.straggle_times
                # A shard that is staged already is found in the ledger.
                takes_s = 0.1 if slot in self.executed else takes_s
                is_failure = self.chance.random() < self.conditions.fail
                self._at(takes_s, partial(self._finish, number, slot, is_failure))
                return
        self._end(number, "done")

    def _finish(self, number: int, slot: str, is_failure: bool) -> None:
        worker = self.running.get(number)
        if worker is None or worker.current is None or worker.current[0] != slot:
            return
        if is_failure:
            self._end(number, "failed", "Unexpected")
            return
        began = worker.current[1]
        is_first = slot not in self.executed
        self.executed[slot] = self.executed.get(slot, 0) + 1
        self.computed_s += self.now - began
        self.last_done = self.now
        worker.done.append(Done(slot, began, self.now, 1, 1, is_first or self.now - began > 1))
        worker.current = None
        self._go_on(number)

    def _drop(self, number: int) -> None:
        worker = self.running.get(number)
        if worker is not None and worker.current is not None and worker.current[0] not in self.files[number]:
            self._end(number, "stopped")

    def _end(self, number: int, end: str, error: str = "") -> None:
        worker = self._free(number)
        if worker.said is not None:
            state = self._state(number, worker)
            self._ended[number] = replace(state, end=end, ended=self.now, error=error, message=error)
        self._assign()

    def _free(self, number: int) -> _Worker:
        worker = self.running.pop(number)
        worker.machine.part = None
        self.busy_s += self.now - worker.began
        return worker

    def _state(self, number: int, worker: _Worker) -> State:
        current = worker.current[0] if worker.current else None
        beat = int(self.now / BEAT_S)
        return State(number, f"worker {id(worker.machine)}", worker.began, beat, worker.done, current)
