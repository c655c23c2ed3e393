"""The coordinator's loop: hand out parts, watch their workers, hand out again what dead workers leave."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from jobs.execute.stop import NEVER, StopToken
from jobs.parts import State, timeline
from jobs.parts.board import Board
from jobs.parts.schedule import Scheduler
from jobs.parts.site import Site
from jobs.parts.timeline import Bar, Timeline
from jobs.source import Shard
from transforms import errors
from transforms.errors import NightscribeError, RunError, Stopped, Unexpected, UserError

LOG = logging.getLogger(__name__)

# Seconds without a beat after which a worker is taken for dead. Longer than a worker trusts what it last saw of the
# lease (see `jobs.store.fencing`), so that it looks again before it writes anything.
SILENT_S = 60.0
# Seconds between two looks: what workers say, at first and at most. Each look is one listing of the sink.
LOOK_S, MAX_LOOK_S = 1.0, 5.0
# Refused parts, and parts that end before a worker begins them, after which the run ends, if no shard has been done
# since the first of them.
MAX_REFUSED, MAX_UNBEGUN = 3, 5
# Seconds before a part is handed out again after such a one, times the number of them, unless the site can avoid its
# worker.
REFUSED_S = 10.0
# Seconds between two records of who does what.
RECORD_S = 30.0


@dataclass
class _Heard:
    """When the coordinator last heard of a worker, by its own clock.

    Attributes:
        beat: what the worker said.
        at: when that was new.
    """

    beat: int
    at: float


@dataclass
class Dispatch:
    """Executes shards in parts on a site.

    Args:
        board: the files of the parts.
        scheduler: the rules.
        site: where the parts run.
        at_once: maximum number of parts that run at a time; None: one for each worker.
        clock: seconds; never set back.

    Attributes:
        states: the last that each worker said, by number of the part.
        lost: part -> why it is taken for lost.
        lost_at: part -> when that was, seconds since 1970.
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
    _not_before: float = 0.0
    _unbegun: int = 0
    _complaint: str | None = None
    _earlier: Timeline = field(default_factory=Timeline)
    _recorded_at: float = 0.0

    def __post_init__(self) -> None:
        # Another attempt of the same run may have left parts, whose workers may still live.
        self._first = self.scheduler.last = self.board.last()
        self._earlier = timeline.read(self.board.store, self.board.run_id) or Timeline()

    def run(self, stop: StopToken = NEVER) -> None:
        """Hand out parts until every shard is done.

        Raises:
            RunError: a shard failed, or workers refuse or die; finished shards are kept.
            Stopped: the run was asked to stop.
        """
        look_s = LOOK_S
        self.board.clear_others()
        for number in range(1, self._first + 1):
            self.board.write(number, ())
        try:
            while True:
                before = len(self.scheduler.done), len(self.scheduler.running)
                self._listen()
                if self.scheduler.is_finished:
                    return
                stop.check()
                self._hand_out()
                self._complain()
                self._record()
                is_quiet = before == (len(self.scheduler.done), len(self.scheduler.running))
                look_s = min(1.5 * look_s, MAX_LOOK_S) if is_quiet else LOOK_S
                self.site.wait(look_s)
        finally:
            for number in list(self.scheduler.running):
                self.board.write(number, ())
                self.site.stop(number)
            # What went wrong before is more important.
            with suppress(OSError, NightscribeError):
                timeline.write(self.board.store, self.board.run_id, self.timeline())

    def timeline(self) -> Timeline:
        """Who has done what so far, in all attempts at the run."""
        bars = [self._bar(state) for number, state in sorted(self.states.items()) if number > self._first]
        unbegun = {number: why for number, why in self.lost.items() if number not in self.states}
        return self._earlier.followed_by(Timeline(bars, unbegun))

    def _bar(self, state: State) -> Bar:
        done = [(each.began, each.ended) for each in state.done or ()]
        why, end, ended = self.lost.get(state.number, ""), state.end, state.ended
        if state.number in self.lost_at and end not in ("refused", "failed"):
            end, ended = "lost", max([self.lost_at[state.number], *(after for _, after in done)])
        return Bar(state.number, state.worker, state.began, ended or time.time(), end, why or state.message, done)

    def _record(self) -> None:
        if self.clock() - self._recorded_at > RECORD_S:
            self._recorded_at = self.clock()
            timeline.write(self.board.store, self.board.run_id, self.timeline())

    def _hand_out(self) -> None:
        now = self.clock()
        workers = self.site.workers()
        running = len(self.scheduler.running)
        # With no worker in sight one part is started, so that the server shows what is waiting.
        limit = max(1, workers if self.at_once is None else self.at_once)
        while running < limit and now >= self._not_before:
            part = self.scheduler.next(now, limit)
            # First the part that loses shards, so that no worker begins what another one has.
            for number in sorted(self.scheduler.changed):
                self.board.write(number, self.scheduler.running[number].left.values())
            self.scheduler.changed.clear()
            if part is None:
                return
            self.board.write(part.number, part.shards)
            self.site.start(part.number)
            LOG.info("part %d with %d shards is handed out", part.number, len(part.shards))
            running += 1

    def _listen(self) -> None:
        now = self.clock()
        # Asked first, because a worker says what it has done before its process ends.
        gone = self.site.gone()
        for state in self.board.states():
            heard = self._heard.get(state.number)
            if heard is None or heard.beat != state.beat:
                self._heard[state.number] = _Heard(state.beat, now)
            self._note(state, now)
        for number, why in gone.items():
            if number in self.scheduler.running:
                self._lose(number, why, now)
        for number in list(self.scheduler.running):
            heard = self._heard.get(number)
            if heard is not None and now - heard.at > SILENT_S:
                worker = self.states[number].worker
                self._lose(number, f"worker {worker} has said nothing for {SILENT_S:.0f} s", now)

    def _note(self, state: State, now: float) -> None:
        known = self.states.get(state.number)
        seen = len(known.done or ()) if known is not None else 0
        self.states[state.number] = state
        for done in (state.done or ())[seen:]:
            self.scheduler.finish(done.slot, done.ended - done.began if done.computed else None)
            self._refused.clear()
            self._unbegun = 0
        if state.number not in self.scheduler.running:
            return
        self.scheduler.see(state.number, state.current, now)
        if state.end in ("done", "stopped"):
            self._end(state.number, "")
        elif state.end == "refused":
            self._refuse(state, now)
        elif state.end == "failed":
            self._fail(state)

    def _lose(self, number: int, why: str, now: float) -> None:
        """The worker of a part is gone, or out of reach."""
        self.lost_at[number] = time.time()
        avoided = number not in self.states and self.site.avoid(number)
        self._end(number, why, blame=True)
        self.site.stop(number)
        if number in self.states:
            return
        self._unbegun += 1
        if not avoided:
            self._not_before = now + REFUSED_S * self._unbegun
        if self._unbegun >= MAX_UNBEGUN and not self.scheduler.running:
            raise RunError(
                f"{self._unbegun} parts in a row ended before a worker began them, the last one because {why}; see the "
                f"logs of the workers; finished shards are kept, run again to continue"
            )

    def _refuse(self, state: State, now: float) -> None:
        self._refused[state.worker] += 1
        refused = self._refused.total()
        if not self.site.avoid(state.number):
            self._not_before = now + REFUSED_S * refused
        self._end(state.number, state.message)
        if refused >= MAX_REFUSED and not self.scheduler.running:
            raise _error(state)

    def _fail(self, state: State) -> None:
        error = _error(state)
        too_often = self._end(state.number, state.message, blame=True)
        if too_often or isinstance(error, UserError | errors.SinkBusy | errors.SourceError) or state.current is None:
            raise error

    def _end(self, number: int, why: str, blame: bool = False) -> bool:
        """A part has ended. Its process may still be alive, and must not begin another shard."""
        shard = self.scheduler.running[number].current
        too_often = self.scheduler.end(number, blame)
        if why:
            self.lost[number] = why
            LOG.warning("part %d is handed out again: %s", number, why)
        self.board.write(number, ())
        if too_often and not self.states.get(number, State(number, "", 0.0)).message:
            key = next(each.key for each in self.scheduler.shards if each.slot == shard)
            raise RunError(
                f"{len(too_often)} shard of {key!r} was begun {self.scheduler.attempts[too_often[0]]} times, and each "
                f"time its worker died ({why}); it may need more memory than the workers have; finished shards are kept"
            )
        return bool(too_often)

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
    kind = getattr(errors, state.error, None)
    if isinstance(kind, type) and issubclass(kind, NightscribeError):
        return kind(state.message)
    return Unexpected(state.message)


__all__ = ["Dispatch", "Stopped", "execute"]
