"""What it costs to read data sets of the Hub: bytes on the wire, requests and seconds, at a Hub on this machine.

    python -m tests.bench.hub [--repeats 5] [--small 1000] [--quick]

    two columns    two of 60 columns of a Parquet data set, read by this project and by a stream of `datasets` with the
                   same columns, in turn; bytes are compared with the size of these columns' chunks in the files
    nights         a job into a sink: the first night, one without news, one after a commit that changes one file of 8
    small files    many files of 20 rows each: planned, then read

The Hub sends as fast as this machine can, so the seconds are those of the readers; on a real line the bytes and the
requests decide. The last line is JSON.
"""

from __future__ import annotations

# First, because it names the Hub in the environment.
from tests.hub.local import HUB  # isort: skip

import argparse
import io
import json
import os
import statistics
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs import run, source, spec
from jobs.spec import SourceSpec
from tests import tiny
from tests.bench import corpus, turns

COLUMNS = 60
WANTED = ["id", "text"]


@dataclass(frozen=True)
class Cost:
    """What the Hub and its storage were asked for.

    Attributes:
        requests: their number, redirects included.
        sent: bytes of the answers' bodies.
    """

    requests: int
    sent: int


def asked() -> Cost:
    """The cost since the last call."""
    with HUB.lock:
        found = Cost(len(HUB.requests), sum(each.sent for each in HUB.requests))
        HUB.requests.clear()
    return found


def wide(rows: int, seed: int) -> bytes:
    """A Parquet file with a key, a text and numbers, in row groups of 10,000 rows."""
    random = np.random.default_rng(seed)
    table = {"id": [f"r{seed}-{i}" for i in range(rows)], "text": tiny.texts(rows, seed=seed)}
    table |= {f"number_{i}": random.random(rows) for i in range(COLUMNS - len(WANTED))}
    stream = io.BytesIO()
    pq.write_table(pa.table(table), stream, row_group_size=10_000, compression="zstd")
    return stream.getvalue()


def chunks(content: bytes) -> int:
    """Bytes of the wanted columns' chunks in a file."""
    metadata = pq.read_metadata(io.BytesIO(content))
    return sum(
        metadata.row_group(group).column(i).total_compressed_size
        for group in range(metadata.num_row_groups)
        for i in range(metadata.num_columns)
        if metadata.row_group(group).column(i).path_in_schema in WANTED
    )


def two_columns(files: int, rows: int, repeats: int) -> dict[str, Any]:
    """Both readers in turn; each repeat is of a new repository, so that no cache knows it."""
    content = {f"data/train-{i:05d}.parquet": wide(rows, i) for i in range(files)}
    size = sum(map(chunks, content.values()))
    costs: dict[str, list[Cost]] = {"nightscribe": [], "datasets": []}

    def repository() -> str:
        name = f"bench/{uuid.uuid4().hex[:12]}"
        HUB.repository("dataset", name, content)
        asked()
        return name

    def nightscribe(repeat: int) -> None:
        section = SourceSpec(dataset=repository(), columns=WANTED)
        planned, shards = source.plan(section)
        seen = sum(len(batch) for shard in shards for batch in source.read(planned, shard, 4096))
        assert seen == files * rows
        costs["nightscribe"].append(asked())

    def stream(repeat: int) -> None:
        import datasets

        found = datasets.load_dataset(repository(), split="train", streaming=True, columns=WANTED)
        seen = sum(len(batch["id"]) for batch in found.with_format("arrow").iter(4096))
        assert seen == files * rows
        costs["datasets"].append(asked())

    seconds = turns.take({"nightscribe": nightscribe, "datasets": stream}, repeats)
    return {
        "chunk_bytes": size,
        **{
            name: {
                "bytes_ratio": round(statistics.median(each.sent for each in costs[name]) / size, 3),
                "requests": round(statistics.median(each.requests for each in costs[name])),
                "seconds": round(statistics.median(seconds[name]), 2),
            }
            for name in costs
        },
    }


def nights(folder: Path) -> dict[str, Any]:
    """The same job three times."""
    name = f"bench/{uuid.uuid4().hex[:12]}"
    files = {f"data/train-{i}.parquet": wide(500, i) for i in range(8)}
    repository = HUB.repository("dataset", name, files)
    model = tiny.bert(folder / "model", "classify", ["a", "b"])
    job = spec.parse(
        {
            "name": "hub",
            "source": {"dataset": name, "columns": WANTED},
            "tasks": [{"task": "classify", "column": "text", "model": str(model), "into": "label"}],
            "sink": {"path": str(folder / "out")},
        }
    )
    found = {}
    for night in ("first night", "no news", "one of 8 files changed"):
        if night.startswith("one"):
            repository.commit({"data/train-3.parquet": wide(500, 100)})
        asked()
        started = time.monotonic()
        report = run.run(job)
        cost = asdict(asked())
        found[night] = cost | {"shards": report.shards_done, "seconds": round(time.monotonic() - started, 2)}
    return found


def small_files(number: int) -> dict[str, Any]:
    """Many small files: planned, then read."""
    name = f"bench/{uuid.uuid4().hex[:12]}"
    files = {}
    for i in range(number):
        stream = io.BytesIO()
        pq.write_table(pa.table({"id": [f"{i}-{row}" for row in range(20)], "text": ["a text"] * 20}), stream)
        files[f"data/train-{i:05d}.parquet"] = stream.getvalue()
    HUB.repository("dataset", name, files)
    asked()
    started = time.monotonic()
    planned, shards = source.plan(SourceSpec(dataset=name))
    plan = asdict(asked()) | {"seconds": round(time.monotonic() - started, 2)}
    started = time.monotonic()
    assert sum(len(batch) for shard in shards for batch in source.read(planned, shard, 4096)) == number * 20
    read = asdict(asked()) | {"seconds": round(time.monotonic() - started, 2)}
    return {"files": number, "plan": plan, "read": read}


def main() -> None:
    """Measure, print a table, then a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, default=4, help="wide files")
    parser.add_argument("--rows", type=int, default=50_000, help="rows of a wide file")
    parser.add_argument("--small", type=int, default=1000, help="number of small files")
    parser.add_argument("--quick", action="store_true", help="small, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.rows, arguments.small = 1, 20_000, 100
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = f"{folder}/cache"
        found = {
            "two columns": two_columns(arguments.files, arguments.rows, arguments.repeats),
            "nights": nights(Path(folder)),
            "small files": small_files(arguments.small),
        }
    for part, figures in found.items():
        print(part)
        for what, value in figures.items():
            print(f"  {what:<24}{value}")
    print(json.dumps({"bench": "hub", **found, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
