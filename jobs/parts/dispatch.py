"""The coordinator's loop: hand out parts, watch their workers, hand out again what dead workers leave."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from jobs.execute import worker_error
from jobs.execute.stop import NEVER, StopToken
from jobs.parts import State, timeline
from jobs.parts.board import Board
from jobs.parts.outbox import Outbox
from jobs.parts.patience import Patience
from jobs.parts.schedule import MAX_FAILED, MAX_LOST, MAX_STOPPED, Scheduler
from jobs.parts.site import Site
from jobs.parts.timeline import Timeline
from jobs.source import Shard
from transforms.errors import NightscribeError, RunError, SinkBusy, SourceError, Unexpected, UserError

LOG = logging.getLogger(__name__)

# Seconds without a beat after which a worker is taken for dead. Longer than a worker trusts what it last saw of the
# lease (see `jobs.store.fencing`), so that it looks again before it writes anything.
SILENT_S = 60.0
# Seconds between two looks: what workers say, at least and at most. Each look is one listing of the sink, so a long run
# looks less often: after a share of the seconds that it has taken, as long as no part ends.
LOOK_S, MAX_LOOK_S, LOOK_SHARE = 1.0, 5.0, 0.02
# Refused parts, and for each worker parts that end before a shard is begun, after which the run ends, if no shard has
# been done since the first of them.
MAX_REFUSED, MAX_UNBEGUN = 3, 5
# Seconds before a part is handed out again after such a one, times the number of them, unless the site can avoid its
# worker.
REFUSED_S = 10.0
# Seconds between two records of who does what, at least: they get longer with the run, like those between two looks.
RECORD_S = 30.0


@dataclass
class _Heard:
    """What the coordinator last heard of a worker, and when by its own clock.

    Attributes:
        worker: which one, and when it began; a part that is tried again in its place has another one.
        beat: what the worker said.
        at: when that was new.
        done: how many of its finished shards are noted.
    """

    worker: tuple[str, float]
    beat: int
    at: float
    done: int = 0


@dataclass
class Dispatch:
    """Executes shards in parts on a site.

    A store that does not answer for some seconds stops nothing: what was to be written is written later. Time counts
    only while this process looks and the store answers, so that no worker is taken for dead because this process slept.

    Args:
        board: the files of the parts.
        scheduler: the rules.
        site: where the parts run.
        at_once: maximum number of parts that run at a time; None: one for each worker.
        clock: seconds; never set back.

    Attributes:
        states: the last that each worker said, by number of the part.
        lost: part -> why it is taken for lost, or was stopped before its end.
        lost_at: part -> when it was lost, seconds since 1970.
    """

    board: Board
    scheduler: Scheduler
    site: Site
    at_once: int | None = None
    clock: Callable[[], float] = time.monotonic
    states: dict[int, State] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)
    lost_at: dict[int, float] = field(default_factory=dict)
    _heard: dict[int, _Heard] = field(default_factory=dict)
    _refused: Counter[str] = field(default_factory=Counter)
    _unbegun: int = 0
    _limit: int = 1
    _not_before: float = 0.0
    _complaint: str | None = None
    # Parts whose processes have ended, as long as it is not known what they said at last.
    _gone: dict[int, str] = field(default_factory=dict)
    _now: float = 0.0
    _looked: float | None = None
    _earlier: Timeline = field(default_factory=Timeline)
    _recorded_at: float = 0.0

    def __post_init__(self) -> None:
        self._patience = Patience(self.clock)
        self._outbox = Outbox(self.board, self.scheduler, self.site)
        # Another attempt at the same run may have left parts, whose workers may still live.
        last = self.board.last()
        self._outbox.add(range(1, last + 1))
        # Parts of earlier runs that were killed are shown beside those of this one, so no number is used twice.
        self._earlier = self.board.timeline()
        self._first = self.scheduler.last = max([last, *self._earlier.part_numbers])

    def run(self, stop: StopToken = NEVER) -> None:
        """Hand out parts until every shard is done.

        Raises:
            RunError: a shard failed, or workers refuse or die; finished shards are kept.
            SinkError: the sink did not answer for minutes.
            Stopped: the run was asked to stop.
        """
        look_s = LOOK_S
        if self._earlier.part_numbers:
            # Before the files are deleted from which it is known.
            self.board.record(self._earlier)
        self.board.clear_others()
        try:
            while True:
                before = set(self.scheduler.running)
                self._turn(stop)
                if self.scheduler.is_finished:
                    return
                most_s = min(MAX_LOOK_S, LOOK_S + LOOK_SHARE * self._now)
                look_s = min(1.5 * look_s, most_s) if before == self.scheduler.running.keys() else LOOK_S
                self.site.wait(look_s)
        finally:
            self._stop_all()

    def _turn(self, stop: StopToken) -> None:
        # Asked first, because a worker says what it has done before its process ends.
        self._gone.update(self.site.gone())
        states = self._patience.ask(self.board.states)
        if states is not None:
            self._listen(states)
        if self.scheduler.is_finished:
            return
        stop.check()
        if states is not None:
            self._hand_out()
            if self._patience.ask(self._send) and self._patience.ask(self._record):
                self._patience.renew()
        self._complain()

    def timeline(self) -> Timeline:
        """Who has done what so far, in all attempts at the run."""
        bars = [
            timeline.bar(state, self.lost.get(number, ""), self.lost_at.get(number))
            for number, state in sorted(self.states.items())
            if number > self._first
        ]
        unbegun = {number: why for number, why in self.lost.items() if number not in self.states}
        return self._earlier.followed_by(Timeline(bars, unbegun))

    def _record(self) -> bool:
        if self._now - self._recorded_at > RECORD_S + LOOK_SHARE * self._now:
            self._recorded_at = self._now
            self.board.record(self.timeline())
        return True

    def _hand_out(self) -> None:
        workers = self.site.workers()
        running = len(self.scheduler.running)
        # With no worker in sight one part is started, so that the server shows what is waiting.
        self._limit = limit = max(1, workers if self.at_once is None else self.at_once)
        while running < limit and self._now >= self._not_before:
            part = self.scheduler.next(self._now, limit)
            self._outbox.add_changed()
            if part is None:
                return
            self._outbox.add_new(part.number)
            LOG.info("part %d with %d shards is handed out", part.number, len(part.shards))
            running += 1

    def _send(self) -> bool:
        return self._outbox.send(self.states)

    def _listen(self, states: Iterable[State]) -> None:
        now = self.clock()
        self._now += min(now - self._looked, 2 * MAX_LOOK_S) if self._looked is not None else 0.0
        self._looked = now
        for state in states:
            if self.states.get(state.number) is not state:
                self._note(state)
        for number, why in self._gone.items():
            if number in self.scheduler.running:
                self._lose(number, why, MAX_LOST)
        self._gone.clear()
        for number in list(self.scheduler.running):
            heard = self._heard.get(number)
            if heard is not None and self._now - heard.at > SILENT_S:
                self._lose(number, f"worker {heard.worker[0]} has said nothing for {SILENT_S:.0f} s", MAX_LOST)

    def _note(self, state: State) -> None:
        number, worker = state.number, (state.worker, state.began)
        self.states[number] = state
        heard = self._heard.get(number)
        if heard is None or heard.worker != worker:
            heard = self._heard[number] = _Heard(worker, state.beat, self._now)
        elif heard.beat != state.beat:
            heard.beat, heard.at = state.beat, self._now
        finished = (state.done or [])[heard.done :]
        heard.done += len(finished)
        for done in finished:
            self.scheduler.finish(done.slot, done.ended - done.began if done.computed else None, number)
            self._refused.clear()
            self._unbegun = 0
        if number not in self.scheduler.running:
            return
        self.scheduler.see(number, state.current, self._now)
        if state.end in ("done", "stopped"):
            why = state.message if self.scheduler.running[number].left else ""
            self._lose(number, why, MAX_STOPPED)
        elif state.end == "refused":
            self._refuse(state)
        elif state.end == "failed":
            self._fail(state)

    def _refuse(self, state: State) -> None:
        self._refused[state.worker] += 1
        refused = self._refused.total()
        if not self.site.avoid(state.number):
            self._not_before = self._now + REFUSED_S * refused
        self._end(state.number, state.message)
        if refused >= MAX_REFUSED and not self.scheduler.running:
            raise _error(state)

    def _fail(self, state: State) -> None:
        error = _error(state)
        too_often = self._end(state.number, state.message, MAX_FAILED)
        if too_often or isinstance(error, UserError | SinkBusy | SourceError) or state.current is None:
            raise error

    def _lose(self, number: int, why: str, most: int) -> None:
        """A part has ended, perhaps with shards that are not done; or its worker is gone, or out of reach."""
        part = self.scheduler.running[number]
        self._unbegun += int(bool(part.left) and part.current is None)
        avoided = number not in self.states and self.site.avoid(number)
        if most == MAX_LOST:
            self.lost_at[number] = time.time()
        if too_often := self._end(number, why, most):
            key, count = self.scheduler.key(too_often[0]), self.scheduler.begun[too_often[0]]
            raise RunError(
                f"a shard of {key!r} was begun {count} times, and each time its worker died or was stopped ({why}); it "
                f"may need more memory than the workers have, or more time than they last; finished shards are kept"
            )
        if self._unbegun >= MAX_UNBEGUN * self._limit:
            raise RunError(
                f"{self._unbegun} parts in a row ended before a worker began a shard, the last one because "
                f"{why or 'its worker left'}; see the logs of the workers; finished shards are kept"
            )
        if self._unbegun and not avoided:
            self._not_before = self._now + min(self._unbegun // self._limit * REFUSED_S / 2, SILENT_S)

    def _end(self, number: int, why: str, most: int = MAX_STOPPED) -> list[str]:
        """A part has ended; its process may still be alive, and must not begin another shard."""
        too_often = self.scheduler.end(number, most)
        if why:
            self.lost[number] = why
            LOG.warning("part %d is handed out again: %s", number, why)
        self._outbox.add([number])
        if number not in self.states or not self.states[number].end:
            self.site.stop(number)
        return too_often

    def _stop_all(self) -> None:
        """Nobody begins another shard; an error of this does not hide the one for which the run ends."""
        for number in list(self.scheduler.running):
            self.scheduler.end(number)
            self._outbox.add([number])
            with suppress(NightscribeError, OSError):
                self.site.stop(number)
        self._outbox.start_nothing()
        with suppress(NightscribeError, OSError):
            self._send()
            self.board.record(self.timeline())

    def _complain(self) -> None:
        complaint = self.site.complaint()
        if complaint is not None and complaint != self._complaint:
            LOG.warning("%s", complaint)
        self._complaint = complaint


def execute(
    board: Board,
    todo: Sequence[Shard],
    site: Site,
    costs: Sequence[float] | None,
    parts: int | None,
    at_once: int | None,
    stop: StopToken,
) -> Dispatch:
    """Execute shards in parts; returns what happened.

    Args:
        board: the files of the parts.
        todo: the shards.
        site: where the parts run.
        costs: seconds of each shard, if they are known.
        parts: number of parts; None: as many as fit.
        at_once: maximum number of parts at a time; None: one for each worker.
        stop: asks the run to stop.

    Raises:
        RunError: as `Dispatch.run`.
    """
    relative = [float(shard.rows or shard.about_rows or 1) for shard in todo]
    scheduler = Scheduler(todo, costs or relative, costs is not None, parts)
    dispatch = Dispatch(board, scheduler, site, at_once)
    dispatch.run(stop)
    return dispatch


def _error(state: State) -> NightscribeError:
    """The error that a worker raised."""
    return worker_error.named(state.error, state.message) or Unexpected(state.message)
