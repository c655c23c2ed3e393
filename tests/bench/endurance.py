"""Long runs: memory over millions of rows, and processes that are killed every few seconds until the job is done.

    python -m tests.bench.endurance [--what memory kills] [--rows 10000000] [--kills 200] [--every 3]
                                    [--ways local workers parts] [--sink folder|s3] [--quick]

`memory` samples the resident memory of the driver and of the largest worker of a run, and tells the peaks and how much
they grow between the start and the end. `kills` kills a driver or a worker at random moments, adds rows whenever the
job is done too early, and at last compares the sink with one that nothing has disturbed: every row once, the same
bytes, no more files of its own. The kills are divided among the ways. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from jobs.store import Store, names
from tests import killing
from tests.bench import corpus

# As large as a shard of Parquet gets, so that a file is a shard.
FILE_ROWS = 50_000
SAMPLE_S = 0.5
# Seconds after a run within which all of its workers have to end: they ask for the lease at least every 15 s.
END_S = 60.0


def memory(folder: Path, rows: int, way: str) -> dict[str, Any]:
    """One run of so many rows, its processes sampled."""
    source, sink = folder / "in", folder / "out"
    killing.make_lake(source, rows, max(1, rows // FILE_ROWS))
    driver = killing.start(folder, killing.job(source, str(sink), way), way)
    started = time.monotonic()
    samples: list[tuple[float, float, float]] = []
    while driver.process.poll() is None:
        workers = [_resident(each) for each in driver.look()]
        try:
            own = _resident(psutil.Process(driver.process.pid))
            samples.append((time.monotonic() - started, own, max(workers, default=0.0)))
        except psutil.NoSuchProcess:
            break
        time.sleep(SAMPLE_S)
    driver.process.wait()
    seconds = time.monotonic() - started
    found = len(killing.ids(Store(str(sink))))
    at, drivers, workers_mib = np.array(samples).T
    # Without the start, in which libraries are imported, and the end, in which workers leave.
    late = (at > 0.3 * at[-1]) & (at < 0.9 * at[-1])
    return {
        "exit": driver.process.returncode,
        "rows": found,
        "seconds": round(seconds, 1),
        "peak_driver_mib": round(drivers.max()),
        "peak_worker_mib": round(workers_mib.max()),
        "driver_mib_per_million_rows": _growth(at[late], drivers[late], seconds / rows),
        "worker_mib_per_million_rows": _growth(at[late], workers_mib[late], seconds / rows),
    }


def kills(
    folder: Path, url: str, rows: int, way: str, count: int, every_s: float, shard_s: float, seed: int
) -> dict[str, Any]:
    """A job whose processes are killed, and the same rows in a run that nothing disturbs."""
    source, files = folder / "in", max(1, rows // FILE_ROWS)
    each = rows // files
    killing.make_lake(source, rows, files)
    content = killing.job(source, f"{url}/killed", way, 1000 * shard_s / each)
    added = 0

    def more() -> None:
        nonlocal added
        added += 1
        killing.make_lake(source, each * max(1, files // 10), max(1, files // 10), start=added * 10 * rows)

    started = time.monotonic()
    store = Store(f"{url}/killed")
    told = killing.until_done(
        lambda: killing.start(folder, content, way), store, count, every_s, random.Random(seed), more
    )
    seconds = time.monotonic() - started
    ended = not [p for p in psutil.process_iter() if _works_for(p, folder)] or _all_end(folder)
    plain = killing.start(folder, content | {"sink": {"path": f"{url}/plain"}, "runner": {}}, "local")
    assert plain.process.wait() == 0
    undisturbed = Store(f"{url}/plain")
    found, wanted = killing.ids(store), killing.ids(undisturbed)
    # Who did what when is kept of a run in parts, and the other one is none.
    left = {each for each in killing.internal(store) if not each.startswith(f"{names.TIMELINES}/")}
    left -= killing.internal(undisturbed)
    return {
        "seconds": round(seconds),
        "drivers_killed": told.of_drivers,
        "workers_killed": told.of_workers,
        "runs": told.runs,
        "ended_by_an_error": told.failed,
        "nights": told.done + 1,
        "rows": len(wanted),
        "rows_once": bool(np.array_equal(found, wanted)),
        "bytes_equal": killing.contents(store) == killing.contents(undisturbed),
        "files_left": sorted(left),
        "workers_ended": ended,
    }


@contextmanager
def place(sink: str, folder: Path) -> Iterator[str]:
    """A folder or bucket for sinks."""
    if sink == "folder":
        yield str(folder)
        return
    from tests import s3

    with s3.server("bench"):
        yield "s3://bench"


def _growth(at: np.ndarray[Any, Any], mib: np.ndarray[Any, Any], seconds_per_row: float) -> float:
    """MiB for each million rows: the slope of the line of least squares."""
    return round(float(np.polyfit(at, mib, 1)[0]) * seconds_per_row * 1e6, 2) if len(at) > 2 else 0.0


def _resident(process: psutil.Process) -> float:
    try:
        return process.memory_info().rss / 2**20
    except psutil.NoSuchProcess:
        return 0.0


def _works_for(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.pid != psutil.Process().pid and process.cwd() == str(folder)
    except psutil.Error:
        return False


def _all_end(folder: Path) -> bool:
    deadline = time.monotonic() + END_S
    while any(_works_for(process, folder) for process in psutil.process_iter()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.5)
    return True


def main() -> None:
    """Measure, one way after the other."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", nargs="+", choices=["memory", "kills"], default=["memory", "kills"])
    parser.add_argument("--ways", nargs="+", choices=killing.WAYS, default=list(killing.WAYS))
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--every", type=float, default=3.0, help="mean seconds until a kill")
    parser.add_argument("--shard-s", type=float, default=1.0, help="seconds that a shard takes at least, in `kills`")
    parser.add_argument("--sink", choices=["folder", "s3"], default="folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.kills = 200_000, 6
    found: dict[str, Any] = {}
    for what in arguments.what:
        for i, way in enumerate(arguments.ways):
            count = arguments.kills // len(arguments.ways) + (i < arguments.kills % len(arguments.ways))
            with tempfile.TemporaryDirectory() as name, place(arguments.sink, Path(name)) as url:
                if what == "memory":
                    each = memory(Path(name), arguments.rows, way)
                else:
                    each = kills(
                        Path(name),
                        url,
                        arguments.rows,
                        way,
                        count,
                        arguments.every,
                        arguments.shard_s,
                        arguments.seed + i,
                    )
            found[f"{what}_{way}"] = each
            print(f"{what} {way}: {json.dumps(each)}", flush=True)
    print(json.dumps({"bench": "endurance", "sink": arguments.sink} | found | {"versions": corpus.versions()}))


if __name__ == "__main__":
    main()
