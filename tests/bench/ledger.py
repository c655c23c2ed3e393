"""What a night costs that has nearly nothing to do: a plan of 100,000 finished shards and 10 new ones.

    python -m tests.bench.ledger [--shards 100000] [--store local|s3|minio]

A finished night is made directly: one tiny Parquet file, linked or copied under many names, and entries written through
the ledger. Then a new process plans, with and without what the night has kept of the layouts of its files. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.bench import corpus

NEW = 10
FOLDERS = 100

# As an entry has them after a night of one task that classifies.
FINDINGS: dict[str, Any] = {
    "rows": 8,
    "parts": 1,
    "labels": {"label": {"negative": 3, "positive": 5}},
    "scores": {"label": [0] * 34},
    "lengths": [0] * 18,
    "rejects": {},
    "partitions": {"label": {"day=1": {"negative": 3, "positive": 5}}},
    "examples": [{"file": "a.parquet", "text": "words " * 40, "found": {"label": "positive"}}] * 2,
    "least_certain": {"label": [{"file": "a", "text": "words " * 40, "found": {"label": "x"}, "score": 0.5}] * 6},
    "failures": [],
}


def content(root: str) -> dict[str, Any]:
    """The job."""
    task = {"task": "noop", "column": "text", "into": "nothing"}
    return {"name": "night", "source": {"path": f"{root}/in"}, "tasks": [task], "sink": {"path": f"{root}/out"}}


def make(root: str, shards: int) -> None:
    """A lake of one-shard files, and a sink in which all but ten of them are done."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from jobs import spec
    from jobs.plan import planning
    from jobs.sink import Entry, open_sink, owner
    from jobs.sink.orphans import part_name
    from jobs.store import Store, lease

    store = Store(root)
    table = pa.table({"id": [str(i) for i in range(8)], "text": ["some words"] * 8})
    source = pa.BufferOutputStream()
    pq.write_table(table, source)
    files = [f"in/day={i % FOLDERS:03d}/part-{i:06d}.parquet" for i in range(shards - NEW)]
    copy(store, files, source.getvalue().to_pybytes())
    job = spec.parse(content(root))
    plan = planning.make(job)
    sink = open_sink(job.sink)
    with lease.hold(sink.store) as held:
        sink.claim(held.number)
        done = plan.shards
        copy(Store(f"{root}/out"), [part_name(shard) for shard in done], source.getvalue().to_pybytes())
        entries = [
            Entry(shard.slot, shard.id, shard.key, shard.version, shard.start, shard.stop, None, plan.fingerprint, 8, 8,
                  0, part_name(shard), None, 16, 20, plan.run_id, "2026-01-01T00:00:00+00:00", "0" * 32, FINDINGS)
            for shard in done
        ]  # fmt: skip
        sink.published.update(entries)
        owner.record(job, sink.store, plan.source.file_schema)
        sink.tidy()
        assert plan.layouts is not None
        plan.layouts.keep(held.number)
    # The new ones.
    copy(store, [f"in/new/part-{i}.parquet" for i in range(NEW)], source.getvalue().to_pybytes())


def copy(store: Any, files: list[str], data: bytes) -> None:
    """One content under many names."""
    if store.local:
        first = Path(store.path(files[0]))
        for folder in {os.path.dirname(store.path(name)) for name in files}:
            os.makedirs(folder, exist_ok=True)
        first.write_bytes(data)
        # A file system allows some 65,000 links of one file.
        for i, name in enumerate(files[1:], 1):
            if i % 50_000 == 0:
                first = Path(store.path(name))
                first.write_bytes(data)
            else:
                os.link(first, store.path(name))
        return
    with ThreadPoolExecutor(32) as threads:
        list(threads.map(lambda name: store.fs.pipe_file(store.path(name), data), files))


def plan_once(root: str) -> dict[str, float]:
    """Plan in this process."""
    from jobs import spec
    from jobs.plan import planning
    from jobs.store import requests

    job = spec.parse(content(root))
    requests.taken()
    started = time.perf_counter()
    plan = planning.make(job)
    seconds = time.perf_counter() - started
    asked = requests.taken()
    started = time.perf_counter()
    size = len(plan.to_json())
    return {
        "seconds": round(seconds, 2),
        "todo": len(plan.todo),
        "requests": asked.requests,
        "lists": asked.lists,
        "gets": asked.gets,
        "mib_read": round(asked.received / 2**20, 1),
        "plan_file_s": round(time.perf_counter() - started, 2),
        "plan_file_mib": round(size / 2**20, 1),
    }


@contextmanager
def place(store: str) -> Iterator[str]:
    """A folder of that kind of store, with its server."""
    with tempfile.TemporaryDirectory() as folder:
        if store == "local":
            yield folder
        elif store == "s3":
            from tests import s3

            with s3.server("bench"):
                yield "s3://bench/lake"
        else:
            from tests import minio, s3

            with minio.running(Path(folder)) as server, s3.pointed_to(server.address, minio.USER, minio.PASSWORD):
                server.make_bucket("bench")
                yield "s3://bench/lake"


def main() -> None:
    """Make a finished night and plan the next."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", type=int, default=100_000)
    parser.add_argument("--store", choices=["local", "s3", "minio"], default="local")
    parser.add_argument("--step", nargs=2, metavar=("STEP", "ROOT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        from transforms import tasks

        tasks.__path__.append(str(Path(__file__).parent / "tasks"))
        step, root = arguments.step
        print(json.dumps(plan_once(root) if step == "plan" else make(root, arguments.shards)))
        return

    def run(step: str, root: str) -> Any:
        command = [sys.executable, "-m", "tests.bench.ledger", "--shards", str(arguments.shards), "--step", step, root]
        return json.loads(
            subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1]
        )

    with place(arguments.store) as root:
        started = time.perf_counter()
        run("make", root)
        print(f"made {arguments.shards:,} shards in {time.perf_counter() - started:.0f} s", flush=True)
        plans = [run("plan", root) for _ in range(3)]
    for each in plans:
        print(json.dumps(each), flush=True)
    median = sorted(plans, key=lambda each: each["seconds"])[1]
    print(json.dumps({"bench": "ledger", "store": arguments.store, "shards": arguments.shards} | median
                     | {"versions": corpus.versions()}))  # fmt: skip


if __name__ == "__main__":
    main()
