"""Hours and cost of a run in parts, by simulation: the coordinator's own code, with workers of a virtual clock.

    python -m tests.bench.simulate [--shards 100000] [--workers 64] [--seconds FILE] [--mean 60] [--sigma 0.8]
                                   [--life-h H ...] [--part-s S ...] [--quick]
    python -m tests.bench.simulate --check [--shards 90]

FILE has the seconds of a shard in each line, as a run has measured them; without it they are log-normal. Each row of
the table is one way to hand out the same shards: `hours` until the last one is done, `worker hours` that the machines
are paid for until then, `busy` the share of them in which shards were computed that counted. `--check` runs three
worker processes with shards that wait so long, and compares. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import random
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jobs import run, spec
from jobs.parts.board import Board
from jobs.parts.dispatch import Dispatch
from jobs.parts.schedule import LATE, LEAST_S, PART_S, SHARES, Scheduler
from jobs.source import Shard
from tests import killing
from tests.part_processes import LONGEST_WAIT_S, Processes
from tests.virtual_parts import Conditions, VirtualSite


@dataclass(frozen=True)
class Rules:
    """How shards are handed out; see `jobs.parts.schedule`.

    Attributes:
        parts: number of parts of equal cost; None: as the rules make them.
        knows: whether the seconds of the shards are estimated before, with an error of a third.
    """

    part_s: float = PART_S
    least_s: float = LEAST_S
    shares: float = SHARES
    late: float = LATE
    steals: bool = True
    parts: int | None = None
    knows: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of a simulated run.

    Attributes:
        hours: until the last shard is done.
        worker_hours: of all machines until then.
        busy: share of them in which shards were computed for the first time.
        parts: that workers have begun.
        twice: share of the shards that were done more than once.
        vanished: machines that vanished.
        error: with which the run ended; empty if it is done.
    """

    hours: float
    worker_hours: float
    busy: float
    parts: int
    twice: float
    vanished: int
    error: str = ""


def simulate(seconds: Sequence[float], conditions: Conditions, rules: Rules, seed: int = 0) -> Outcome:
    """Execute shards of so many seconds.

    Args:
        seconds: of each shard, on a worker of speed 1.
        conditions: the workers, and what happens to them.
        rules: how the shards are handed out.
        seed: of what is random.
    """
    chance = random.Random(seed)
    shards = [Shard("", f"{i}", "", "parquet", 0, 1, rows=1) for i in range(len(seconds))]
    took = {shard.slot: each for shard, each in zip(shards, seconds, strict=True)}
    site = VirtualSite(took, conditions, chance)
    costs = [each * chance.lognormvariate(0, 0.33) for each in seconds] if rules.knows else [1.0] * len(seconds)
    scheduler = Scheduler(
        shards, costs, rules.knows, rules.parts, rules.part_s, rules.least_s, rules.shares, rules.late, rules.steals
    )
    dispatch = Dispatch(site, scheduler, site, len(conditions.speeds), clock=lambda: site.now)  # type: ignore[arg-type]
    error = ""
    try:
        dispatch.run()
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    hours = site.now / 3600
    useful = sum(took[slot] for slot in site.executed) / 3600
    paid = hours * len(conditions.speeds)
    twice = sum(count > 1 for count in site.executed.values()) / len(shards)
    return Outcome(hours, paid, useful / paid, site.started, twice, site.vanished, error)


@dataclass
class Timed(Processes):
    """Worker processes, and when each was started."""

    at: dict[int, float] = field(default_factory=dict)

    def start(self, number: int) -> None:
        self.at[number] = time.time()
        super().start(number)


def compare(folder: Path, seconds: Sequence[float], workers: int = 3, seed: int = 0) -> dict[str, float]:
    """A run of worker processes whose shards wait so long, and what the simulation says of it.

    It is told how long a worker takes to begin, and each shard, as the run has measured them.
    """
    killing.make_lake_of(folder / "in", [max(1, round(each * 100)) for each in seconds])
    job = spec.parse(killing.job(folder / "in", str(folder / "out"), "parts", milliseconds=10))
    with run.holding(run.prepare(job)) as held:
        todo = held.plan.shards_todo
        site = Timed(held.sink.store.root, held.plan.run_id, workers)
        board = Board(held.sink.store, held.plan)
        made = Dispatch(board, Scheduler(todo, [float(shard.rows or 1) for shard in todo]), site)
        try:
            made.run()
        finally:
            site.close()
        board.clear()
        run.finish(held)
    done = {each.slot: each for state in made.states.values() for each in state.done or ()}
    began = {n: min(each.began for each in state.done) for n, state in made.states.items() if state.done}
    took_s = max(each.ended for each in done.values()) - min(site.at.values())
    start_s = statistics.fmean(at - site.at[number] for number, at in began.items())
    conditions = Conditions((1.0,) * workers, start_s, wakes_s=LONGEST_WAIT_S)
    measured = {shard.slot: done[shard.slot].ended - done[shard.slot].began for shard in todo}
    virtual = VirtualSite(measured, conditions, random.Random(seed))
    scheduler = Scheduler(todo, [float(shard.rows or 1) for shard in todo])
    Dispatch(virtual, scheduler, virtual, workers, clock=lambda: virtual.now).run()  # type: ignore[arg-type]
    return {
        "shards": len(todo),
        "parts": len(began),
        "start_s": round(start_s, 2),
        "real_s": round(took_s, 1),
        "simulated_s": round(virtual.last_done, 1),
        "ratio": round(virtual.last_done / took_s, 3),
    }


def seconds_of(file: Path | None, shards: int, mean: float, sigma: float, seed: int = 0) -> list[float]:
    """The seconds of each shard: measured ones, drawn again for as many shards, or log-normal ones."""
    chance = random.Random(seed)
    if file is not None:
        measured = [float(line) for line in file.read_text().split()]
        return measured if not shards else chance.choices(measured, k=shards)
    middle = math.log(mean) - sigma**2 / 2
    return [chance.lognormvariate(middle, sigma) for _ in range(shards)]


def ways(part_s: Sequence[float], workers: int) -> Iterator[tuple[str, Rules]]:
    """The rules that are compared."""
    for each in part_s:
        yield f"parts of {each:.0f} s", Rules(part_s=each)
    yield "no stealing", Rules(steals=False)
    yield "no second worker", Rules(late=math.inf)
    yield "neither", Rules(steals=False, late=math.inf)
    yield "second worker after 2 x", Rules(late=2.0)
    yield "second worker after 5 x", Rules(late=5.0)
    yield "shares of 1 / n", Rules(shares=1.0)
    yield "shares of 1 / 4 n", Rules(shares=4.0)
    yield "smallest part 10 s", Rules(least_s=10.0)
    yield "smallest part 120 s", Rules(least_s=120.0)
    yield "seconds known before", Rules(knows=True)
    yield f"{workers} parts", Rules(parts=workers)
    yield f"{8 * workers} parts", Rules(parts=8 * workers)


def scenes(workers: int, lives_h: Sequence[float], start_s: float) -> Iterator[tuple[str, Conditions]]:
    """What happens to the workers."""
    same = (1.0,) * workers
    yield "quiet", Conditions(same, start_s)
    yield "1 % take 10 x", Conditions(same, start_s, straggle=0.01)
    yield (
        "one in four at a quarter",
        Conditions((1.0, 1.0, 1.0, 0.25) * (workers // 4) + (1.0,) * (workers % 4), start_s),
    )
    for life_h in lives_h:
        yield f"machines last {life_h:g} h", Conditions(same, start_s, life_s=3600 * life_h)


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The outcomes, medians of the repeats, those of a scene together."""
    lines = [f"{'':<26} {'hours':>8} {'worker h':>9} {'busy':>6} {'parts':>7} {'twice':>7} {'vanished':>8}"]
    scene = None
    for row in rows:
        if row["scene"] != scene:
            scene = row["scene"]
            lines.append(scene)
        numbers = f"{row['hours']:8.3f} {row['worker_hours']:9.1f} {row['busy']:6.3f} {row['parts']:7.0f}"
        lines.append(f"  {row['rules']:<24} {numbers} {row['twice']:7.4f} {row['vanished']:8.0f} {row['error'][:60]}")
    return "\n".join(lines)


def median(outcomes: Sequence[Outcome]) -> dict[str, Any]:
    """The middle of some outcomes, key by key; an error if there is one."""
    keys = [key for key in asdict(outcomes[0]) if key != "error"]
    found = {key: round(statistics.median(getattr(each, key) for each in outcomes), 4) for key in keys}
    return found | {"error": next((each.error for each in outcomes if each.error), "")}


def main() -> None:
    """Simulate, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--seconds", type=Path, help="file with the seconds of a shard in each line")
    parser.add_argument("--mean", type=float, default=60.0)
    parser.add_argument("--sigma", type=float, default=0.8)
    parser.add_argument("--start-s", type=float, default=20.0)
    parser.add_argument("--life-h", type=float, nargs="*", default=[8.0, 1.0])
    parser.add_argument("--part-s", type=float, nargs="+", default=[120, 300, 900, 1800, 3600])
    parser.add_argument("--only", help="only the first of the rules, or those whose name begins so")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true", help="compare with a run of three worker processes")
    arguments = parser.parse_args()
    if arguments.check:
        waits = seconds_of(None, min(arguments.shards, 90), 2.0, 0.6)
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps({"bench": "simulate", "check": compare(Path(folder), waits)}))
        return
    if arguments.quick:
        arguments.shards, arguments.workers, arguments.repeats = 2000, 8, 1
    logging.disable(logging.WARNING)
    started = time.perf_counter()
    seconds = seconds_of(arguments.seconds, arguments.shards, arguments.mean, arguments.sigma)
    rows = []
    for scene, conditions in scenes(arguments.workers, arguments.life_h, arguments.start_s):
        for name, rules in ways(arguments.part_s, arguments.workers):
            if arguments.only is not None and not name.startswith(arguments.only):
                continue
            found = [simulate(seconds, conditions, rules, seed) for seed in range(arguments.repeats)]
            rows.append({"scene": scene, "rules": name, **median(found)})
    print(table(rows))
    print(f"ideal: {sum(seconds) / arguments.workers / 3600:.3f} hours")
    took = round(time.perf_counter() - started, 1)
    print(json.dumps({"bench": "simulate", "shards": len(seconds), "workers": arguments.workers, "took_s": took,
                      "rows": rows}))  # fmt: skip


if __name__ == "__main__":
    main()
