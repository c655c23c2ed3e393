"""A job in processes of its own, of which random ones are killed until it is done; and what is in its sink then."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from jobs import run, spec
from jobs.parts import dispatch
from jobs.parts.board import Board
from jobs.plan import Plan
from jobs.store import Store, names
from tests.part_processes import Processes
from transforms.errors import NightscribeError

# How a job is run: in one process, by a driver and two workers, by a coordinator and two workers that execute parts.
WAYS = ("local", "workers", "parts")
WORKERS = 2
RUN_ID = re.compile(r"\d{8}T\d{6}\w*-[0-9a-f]+|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f-]{27}")


def make_lake(folder: Path, rows: int, files: int, start: int = 0) -> None:
    """Parquet files of `rows // files` rows each: `id` counts from `start`, `text` has about four words."""
    make_lake_of(folder, [rows // files] * files, start)


def make_lake_of(folder: Path, rows: Sequence[int], start: int = 0) -> None:
    """Such files with so many rows."""
    folder.mkdir(parents=True, exist_ok=True)
    words = pa.array(["night", "lake", "shard", "ledger", "table", "worker", "column", "row"])
    for each in rows:
        ids = np.arange(start, start + each)
        chosen = [words.take(pa.array((ids * factor // 7) % 8)) for factor in (3, 5, 11, 13)]
        text = pc.binary_join_element_wise(*chosen, pc.cast(pa.array(ids), pa.string()), " ")
        pq.write_table(pa.table({"id": ids, "text": text}), folder / f"part-{start:012d}.parquet")
        start += each


def job(source: Path, sink: str, way: str, milliseconds: float = 0.0) -> dict[str, Any]:
    """A job with a task that waits so long for each row."""
    task = {"task": "tests.waiting_task", "column": "text", "milliseconds": milliseconds, "into": "length"}
    content = {"name": "test", "source": {"path": str(source)}, "tasks": [task], "sink": {"path": sink}}
    return content | ({"runner": {"workers": WORKERS}} if way == "workers" else {})


def start(folder: Path, content: Mapping[str, Any], way: str, environment: Mapping[str, str] | None = None) -> Driver:
    """Run a job in the background; its output is added to `log.txt` in the folder."""
    file = folder / f"{way}.yaml"
    file.write_text(yaml.safe_dump(dict(content)))
    words = ["-m", "jobs.cli", "run", str(file)] if way != "parts" else ["-m", "tests.killing", str(file)]
    paths = [(environment or {}).get("PYTHONPATH", ""), *sys.path]
    variables = {**os.environ, "OMP_NUM_THREADS": "1", **(environment or {}), "PYTHONPATH": os.pathsep.join(paths)}
    with (folder / "log.txt").open("ab") as log:
        process = subprocess.Popen([sys.executable, *words], env=variables, stdout=log, stderr=log, cwd=folder)
    return Driver(process)


@dataclass
class Driver:
    """The process that holds the sink, and the workers that it has started so far.

    Attributes:
        process: the driver.
        workers: by process id; those of a driver that was killed may go on for some seconds.
    """

    process: subprocess.Popen[bytes]
    workers: dict[int, psutil.Process] = field(default_factory=dict)

    def look(self) -> list[psutil.Process]:
        """The workers that run now."""
        try:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                self.workers[child.pid] = child
        except psutil.NoSuchProcess:
            pass
        self.workers = {pid: each for pid, each in self.workers.items() if _is_alive(each)}
        return list(self.workers.values())

    def wait_for_workers(self, seconds: float) -> bool:
        """Whether all workers have ended within so many seconds of the end of the driver."""
        deadline = time.monotonic() + seconds
        while self.look():
            if time.monotonic() > deadline:
                return False
            time.sleep(0.2)
        return True

    def kill(self) -> None:
        """End everything."""
        for each in [*self.look(), psutil.Process(self.process.pid)] if self.process.poll() is None else self.look():
            each.kill()
        self.process.wait()


@dataclass
class Kills:
    """What happened to a job.

    Attributes:
        of_drivers: drivers that were killed.
        of_workers: workers that were killed.
        runs: how often the driver was started.
        failed: how often it ended with an error by itself.
        done: how often it ended well, before the last time.
    """

    of_drivers: int = 0
    of_workers: int = 0
    runs: int = 0
    failed: int = 0
    done: int = 0

    @property
    def count(self) -> int:
        """All kills."""
        return self.of_drivers + self.of_workers


def until_done(
    begin: Callable[[], Driver],
    store: Store,
    kills: int,
    every_s: float,
    chance: random.Random,
    more: Callable[[], None],
) -> Kills:
    """Start a job again and again, and kill one of its processes now and then, so many times, until it is done.

    A job that never lives long enough to finish a shard cannot make progress. So half of the kills come at any moment
    after the start, the others at any moment after the next shard is done.

    Args:
        begin: starts it.
        store: its sink.
        kills: how many.
        every_s: mean seconds until a kill, from either moment.
        chance: says when, and which process.
        more: called if the job is done too early: adds rows, for another night.

    Raises:
        RuntimeError: it failed many times in a row although nothing was killed any more.
    """
    told, quiet = Kills(), 0
    orphans: dict[int, psutil.Process] = {}
    driver, told.runs = begin(), 1
    while True:
        driver.workers |= orphans
        after_s = chance.uniform(0.1, 2 * every_s) if told.count < kills else float("inf")
        before = staged(store) if chance.random() < 0.5 else {}
        since = None if before else time.monotonic()
        while driver.process.poll() is None and (since is None or time.monotonic() < since + after_s):
            time.sleep(0.1)
            driver.look()
            if since is None and staged(store) != before:
                since = time.monotonic()
        if (code := driver.process.poll()) is None:
            if workers := driver.look() if chance.random() < 0.5 else []:
                chance.choice(workers).kill()
                told.of_workers += 1
                continue
            driver.process.kill()
            driver.process.wait()
            told.of_drivers += 1
        elif code == 0:
            if told.count >= kills:
                return told
            told.done += 1
            more()
        else:
            told.failed += 1
            quiet = quiet + 1 if told.count >= kills else 0
            if quiet > 5:
                raise RuntimeError(f"the job fails although nothing is killed: exit code {code}")
        orphans = {each.pid: each for each in driver.look()}
        driver = begin()
        told.runs += 1


def staged(store: Store) -> dict[str, str]:
    """Versions of the files that change with each shard that is done; never empty."""
    return {"": ""} | store.versions(names.STAGED_LEDGER)


def contents(store: Store) -> dict[str, bytes]:
    """Bytes of the part files and rejected files that readers see, by name."""
    found = [name for name in store.find((".parquet", ".rejected")) if not name.startswith("_nightscribe/")]
    return {name: store.get(name) for name in found}


def internal(store: Store) -> set[str]:
    """The names of the files that a sink has of its own, with a star for ids of runs and numbers of leases."""
    return {re.sub(r"\d{4,}(?=\.)", "*", RUN_ID.sub("*", name)) for name in store.find("", names.FOLDER)}


def ids(store: Store) -> np.ndarray[Any, Any]:
    """The ids of all rows that readers see, sorted."""
    found = []
    for name in store.find(".parquet"):
        if not name.startswith("_nightscribe/"):
            with store.open(name) as stream:
                found.append(pq.read_table(stream, columns=["id"])["id"].to_numpy())
    return np.sort(np.concatenate(found))


def coordinate(parsed: spec.JobSpec, workers: int) -> None:
    """Run a job in parts, in processes of this machine."""
    with run.holding(run.prepare(parsed)) as held:
        plan: Plan = held.plan
        if todo := plan.shards_todo:
            site = Processes(held.sink.store.url, plan.run_id, workers)
            try:
                board = Board(held.sink.store, plan)
                dispatch.execute(board, todo, site, None, None, None, held.stop)
                board.clear()
            finally:
                site.close()
        run.finish(held)


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


if __name__ == "__main__":
    try:
        coordinate(spec.parse(yaml.safe_load(Path(sys.argv[1]).read_text())), WORKERS)
    except NightscribeError as error:
        print(f"nightscribe: {error}", file=sys.stderr)
        sys.exit(1)
