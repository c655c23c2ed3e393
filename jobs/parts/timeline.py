"""Who did what when in a run that was divided into parts; kept in the sink beside its report."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from pydantic import TypeAdapter

from jobs.parts import State
from jobs.store import Store
from jobs.store.names import TIMELINES


@dataclass(frozen=True)
class Bar:
    """A part that a worker has begun.

    Attributes:
        number: of the part.
        worker: who had it.
        began: seconds since 1970, by the clock of the worker.
        ended: likewise; when the coordinator gave it up if it was lost; when it was last heard of if it still runs.
        end: one of `jobs.parts.ENDS`, `lost`, or empty while it runs.
        why: the reason, if it was lost, refused or failed.
        shards: of each shard that it has done, when that began and ended.
    """

    number: int
    worker: str
    began: float
    ended: float
    end: str = ""
    why: str = ""
    shards: Sequence[tuple[float, float]] = ()


@dataclass(frozen=True)
class Numbers:
    """What a report says of the parts of a run.

    Attributes:
        number: how many there were.
        workers: who had one.
        lost: parts whose workers died or were out of reach, and those that none began.
        refused: parts that a worker could not execute.
        shards: of each worker.
    """

    number: int
    workers: int
    lost: int
    refused: int
    shards: dict[str, int]


@dataclass(frozen=True)
class Timeline:
    """The parts of a run.

    Attributes:
        bars: those that a worker has begun, by number.
        unbegun: number of a part that ended before a worker began it -> why.
    """

    bars: Sequence[Bar] = ()
    unbegun: Mapping[int, str] = field(default_factory=dict)

    @property
    def workers(self) -> list[str]:
        """Those who have had a part, in the order in which they came."""
        return list(dict.fromkeys(bar.worker for bar in sorted(self.bars, key=lambda bar: bar.began)))

    def numbers(self) -> Numbers:
        """What a report says: parts, workers, lost and refused parts, shards by worker."""
        ends = Counter(bar.end for bar in self.bars)
        shards = Counter(dict.fromkeys(self.workers, 0))
        for bar in self.bars:
            shards[bar.worker] += len(bar.shards)
        number, lost = len(self.bars) + len(self.unbegun), ends["lost"] + len(self.unbegun)
        return Numbers(number, len(shards), lost, ends["refused"], dict(shards))

    @property
    def part_numbers(self) -> set[int]:
        """The numbers of all parts."""
        return {bar.number for bar in self.bars} | self.unbegun.keys()

    def followed_by(self, later: Timeline) -> Timeline:
        """This attempt at a run together with a later one, which may have some of its parts already."""
        bars = {bar.number: bar for bar in (*self.bars, *later.bars)}
        return Timeline(list(bars.values()), {**self.unbegun, **later.unbegun})


def bar(state: State, why: str, lost_at: float | None) -> Bar:
    """The bar of a part.

    Args:
        state: what its worker said at last.
        why: the reason for which the coordinator gave it up; empty if it did not.
        lost_at: when it was taken for lost, seconds since 1970; None if it was not.
    """
    done = [(each.began, each.ended) for each in state.done or ()]
    end, ended = state.end, state.ended
    if lost_at is not None and end not in ("refused", "failed"):
        end, ended = "lost", max([lost_at, *(after for _, after in done)])
    return Bar(state.number, state.worker, state.began, ended or time.time(), end, why or state.message, done)


def left(found: Timeline, states: Sequence[State]) -> Timeline:
    """The timeline of a run that was killed.

    Args:
        found: what was recorded of it; parts that ran then have no end there.
        states: what workers said at last.
    """
    ended = {each.number for each in found.bars if each.end} | found.unbegun.keys()
    heard = {each.number: each.ended for each in found.bars}
    why = "the run that had started it was killed or stopped"
    # A bar ends with the last shard, or where it was when it was recorded: when its worker died nobody knows.
    bars = [
        bar(state, "", None) if state.end else bar(state, why, heard.get(state.number, state.began))
        for state in states
        if state.number not in ended
    ]
    return found.followed_by(Timeline(bars))


_TIMELINE: TypeAdapter[Timeline] = TypeAdapter(Timeline)


def read(store: Store, run_id: str) -> Timeline | None:
    """The timeline of a run; None if it was not divided into parts, or if the file is damaged."""
    try:
        return _TIMELINE.validate_json(store.get(_file(run_id)))
    except (FileNotFoundError, ValueError):
        return None


def write(store: Store, run_id: str, timeline: Timeline) -> None:
    """Keep the timeline of a run."""
    store.put(_file(run_id), json.dumps(asdict(timeline)).encode())


def _file(run_id: str) -> str:
    return f"{TIMELINES}/{run_id}.json"
