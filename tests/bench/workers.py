"""What `runner.workers: auto` chooses, against one process, one for each core, and what lies between.

    python -m tests.bench.workers [--tasks none classify generate] [--workers 1 2] [--times 4] [--repeats 3] [--quick]

Each job runs in a process of its own, its imports included, with as many files as there are shards to share out. The
arms take turns; medians are of the repeats; the last line is JSON: rows a second, the ratio to one process, and the
largest memory of all processes together, pages that they share counted once (tests.bench.weights says what they share).
torch has all cores with one worker, and an equal share of them with more. `auto` measures in a first run, which is
timed too, and finds that in its cache in the others.

    none         a task that does nothing: reading, writing, the ledger
    classify     DistilBERT-base's shape, float32
    generate     a small Llama
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml

from jobs.execute import cores
from tests.bench import corpus, generate

FILES = 8
ROWS = {"none": 2_000_000, "classify": 512, "generate": 96}
QUICK = {"none": 100_000, "classify": 32, "generate": 8}


def write(folder: Path, task: str, rows: int) -> Path:
    """The job file of a task, its model and its source of eight files."""
    folder.mkdir()
    source = folder / "in"
    if task == "generate":
        generate.write(folder / "all.parquet", rows)
        source.mkdir()
        table = pq.read_table(folder / "all.parquet")
        for i in range(FILES):
            pq.write_table(table.take(list(range(i, rows, FILES))), source / f"{i}.parquet")
    else:
        corpus.write(source, rows, file_rows=rows // FILES, short=task == "none")
    tasks = {
        "none": lambda: {"task": "tests.bench.tasks.noop", "column": "text"},
        "classify": lambda: {"task": "classify", "column": "text", "model": str(corpus.distilbert(folder / "model"))},
        "generate": lambda: {
            "task": "generate",
            "prompt": generate.PROMPT,
            "model": str(generate.model(folder / "model")),
            "max_new_tokens": generate.LONGEST,
        },
    }
    item = tasks[task]() | {"into": "answer"}
    if task != "none":
        item["dtype"] = "float32"
    job = {"name": task, "source": {"path": str(source)}, "tasks": [item], "sink": {"path": str(folder / "out")}}
    (folder / "job.yaml").write_text(yaml.safe_dump(job))
    return folder / "job.yaml"


def timed(job: Path, workers: str, sink: Path) -> tuple[float, float, str]:
    """Seconds of a run, the largest memory (MiB) of its processes together, and how it was split."""
    command = [sys.executable, "-m", "jobs.cli", "run", "--quiet", str(job), f"runner.workers={workers}"]
    started, peak = time.perf_counter(), 0.0
    own = {**os.environ, "XDG_CACHE_HOME": str(job.parent / "cache")}
    with subprocess.Popen([*command, f"sink.path={sink}"], stdout=subprocess.PIPE, text=True, env=own) as process:
        ended, running = threading.Event(), psutil.Process(process.pid)

        def watch() -> None:
            nonlocal peak
            while not ended.wait(0.2):
                peak = max(peak, memory(running))

        thread = threading.Thread(target=watch)
        thread.start()
        told = process.communicate()[0]
        ended.set()
        thread.join()
    if process.returncode:
        raise SystemExit(f"{job} with {workers} workers failed: exit {process.returncode}")
    return time.perf_counter() - started, peak, json.loads(told.splitlines()[-1])["split"]


def memory(process: psutil.Process) -> float:
    """MiB of a process and its children (PSS): pages that they share count once."""
    try:
        total = sum(each.memory_full_info().pss for each in [process, *process.children(recursive=True)])
    except psutil.Error:
        # One of them has ended meanwhile; the next look counts again.
        return 0.0
    return total / 2**20


def main() -> None:
    """Run the jobs in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=sorted(ROWS), default=list(ROWS), metavar="TASK")
    parser.add_argument("--workers", nargs="+", default=[*map(str, counts()), "auto"])
    parser.add_argument("--times", type=int, default=1, help="multiply the number of rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows, one repeat")
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    summary: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        for task in arguments.tasks:
            rows = (QUICK if arguments.quick else ROWS)[task] * arguments.times
            job = write(Path(name) / task, task, rows)
            found: dict[str, list[tuple[float, float]]] = {n: [] for n in arguments.workers}
            first = timed(job, "auto", Path(name) / f"{task}-first") if "auto" in found else None
            for repeat in range(repeats):
                for n in arguments.workers:
                    seconds, peak, split = timed(job, n, Path(name) / f"{task}-{n}-{repeat}")
                    found[n].append((seconds, peak))
                    print(f"{repeat} {task:<10} {n:>4} {seconds:>8.2f} s {peak:>8,.0f} MiB  {split}", flush=True)
            medians = {n: [statistics.median(values) for values in zip(*found[n], strict=True)] for n in found}
            base = medians[arguments.workers[0]][0]
            summary[task] = {f"rows_per_s_{n}": round(rows / medians[n][0], 1) for n in found}
            summary[task] |= {f"x_{n}": round(base / medians[n][0], 2) for n in found}
            summary[task] |= {f"peak_mib_{n}": round(medians[n][1]) for n in found}
            if first is not None:
                summary[task] |= {"x_auto_first": round(base / first[0], 2), "auto": first[2]}
    print(json.dumps({"bench": "workers", "cores": cores.available(), "tasks": summary, "versions": corpus.versions()}))


def counts() -> list[int]:
    """One process, a process for each core, and the powers of two between them."""
    most = cores.available()
    return sorted({1, most, *(2**i for i in range(most.bit_length()))} - {0})


if __name__ == "__main__":
    main()
