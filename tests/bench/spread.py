"""Seconds of one job on 1, 2 and 3 workers of a cluster, with a task whose cost is waiting: the cost of spreading.

    python -m tests.bench.spread [--site dask] [--workers 1 2 3] [--shards 60] [--seconds 2] [--slow 4] [--quick]

Scheduler and workers are processes of this machine, one thread each, and share its cores; the task waits, as for a GPU,
and takes none. The arms take turns, each with a sink of its own. `--slow N` makes the last worker N times slower. The
last line is JSON; `ideal` is the time that the workers wait if they share the shards equally.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import run, spec
from jobs.parts import timeline
from jobs.store import Store
from tests import dask_cluster, lake
from tests.bench import corpus

ROWS = 20


@contextmanager
def dask(folder: Path, workers: int, slow: float) -> Iterator[dict[str, Any]]:
    """A Dask cluster; yields the section `runner` of jobs that it executes."""
    with dask_cluster.running(folder, workers - 1) as cluster:
        cluster.start_worker(f"worker-{workers}", environment={"TESTS_WAIT_TIMES": str(slow)})
        cluster.wait_for_workers(workers)
        yield {"name": "dask", "address": cluster.address}


SITES = {"dask": dask}


def timed(folder: Path, runner: dict[str, Any], milliseconds: float, sink: str) -> dict[str, Any]:
    """Seconds of a run, and the shards of each worker."""
    task = {"task": "tests.waiting_task", "column": "text", "milliseconds": milliseconds, "into": "length"}
    job = {"name": "spread", "source": {"path": str(folder / "lake")}, "tasks": [task], "runner": runner}
    parsed = spec.parse(job | {"sink": {"path": str(folder / sink)}})
    started = time.perf_counter()
    report = run.run(parsed)
    seconds = time.perf_counter() - started
    of_parts = timeline.read(Store(str(folder / sink)), report.run_id)
    assert of_parts is not None
    numbers = of_parts.numbers()
    return {"seconds": seconds, "parts": numbers.number, "shards": numbers.shards}


def main() -> None:
    """Run the arms in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--site", choices=sorted(SITES), default="dask")
    parser.add_argument("--workers", nargs="+", type=int, default=[1, 2, 3])
    parser.add_argument("--shards", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a shard waits")
    parser.add_argument("--slow", type=float, default=1.0, help="how many times slower the last worker is")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few shards, two workers, one repeat")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.workers, arguments.shards, arguments.seconds, arguments.repeats = [1, 2], 6, 0.5, 1
    found: dict[int, list[dict[str, Any]]] = {count: [] for count in arguments.workers}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lake.make_lake(folder / "lake", arguments.shards, ROWS)
        for repeat in range(arguments.repeats):
            for count in arguments.workers:
                with SITES[arguments.site](folder / f"{count}-{repeat}", count, arguments.slow) as runner:
                    sink = f"out-{count}-{repeat}"
                    found[count].append(timed(folder, runner, 1000 * arguments.seconds / ROWS, sink))
                print(f"{repeat} {count} workers {json.dumps(found[count][-1])}", flush=True)
    arms: dict[str, dict[str, Any]] = {}
    seconds = {count: statistics.median(each["seconds"] for each in found[count]) for count in found}
    for count, median in seconds.items():
        speed = count - 1 + 1 / arguments.slow
        arms[str(count)] = {
            "seconds": round(median, 1),
            "ideal": round(arguments.shards * arguments.seconds / speed, 1),
            "x": round(seconds[arguments.workers[0]] / median, 2),
            "parts": found[count][-1]["parts"],
            "shards": sorted(found[count][-1]["shards"].values(), reverse=True),
        }
    told = {"site": arguments.site, "shards": arguments.shards, "shard_s": arguments.seconds, "slow": arguments.slow}
    print(json.dumps({"bench": "spread", **told, "workers": arms, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
