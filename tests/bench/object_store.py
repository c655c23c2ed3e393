"""What it costs to read two of 60 columns of Parquet files on S3: bytes, requests and seconds, on MinIO.

    python -m tests.bench.object_store [--repeats 5] [--quick]

    nightscribe    this project: s3fs, with footers and the wanted columns' chunks in few requests, fetched ahead
    s3fs           pyarrow's reader on a file of s3fs as it is opened by default
    pyarrow        pyarrow's reader on its own S3 filesystem, with `pre_buffer`, which joins and prefetches chunks

Every arm reads the footers of all files first, as a plan does, then the files one after the other; the two peers are
given the list of files. In turn, directly and through a proxy that adds 20 ms to each request. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pyarrow.fs
import pyarrow.parquet as pq

from jobs import source
from jobs.spec import SourceSpec
from tests import minio, proxy, s3
from tests.bench import corpus, turns
from tests.bench.hub import WANTED, chunks, wide

LATENCY_S = 0.02


def nightscribe(bucket: str, files: int, rows: int) -> None:
    """This project: plan and read."""
    planned, shards = source.plan(SourceSpec(path=f"s3://{bucket}", columns=WANTED))
    assert sum(len(batch) for shard in shards for batch in source.read(planned, shard, 4096)) == files * rows


def by_pyarrow(open_file: Callable[[str], Any], bucket: str, files: int, rows: int, pre_buffer: bool) -> None:
    """pyarrow's reader: all footers, then the rows of one file after the other."""
    names = [f"{bucket}/{i}.parquet" for i in range(files)]
    footers = [pq.read_metadata(open_file(name)) for name in names]
    seen = 0
    for name, footer in zip(names, footers, strict=True):
        file = pq.ParquetFile(open_file(name), metadata=footer, pre_buffer=pre_buffer)
        seen += sum(len(batch) for batch in file.iter_batches(4096, columns=WANTED))
    assert seen == files * rows


def measure(between: proxy.Proxy, bucket: str, files: int, rows: int, size: int, repeats: int) -> dict[str, Any]:
    """The arms in turn."""
    cost: dict[str, list[tuple[int, int]]] = {"nightscribe": [], "s3fs": [], "pyarrow": []}
    other = pyarrow.fs.S3FileSystem(
        access_key=minio.USER,
        secret_key=minio.PASSWORD,
        endpoint_override=between.address.removeprefix("http://"),
        scheme="http",
        region=minio.REGION,
    )

    def arm(name: str, call: Callable[[], None]) -> Callable[[int], None]:
        def once(repeat: int) -> None:
            between.forget()
            call()
            cost[name].append((between.received, len(between.requests)))

        return once

    def plain(path: str) -> Any:
        return fsspec.filesystem("s3", skip_instance_cache=True).open(path, "rb")

    seconds = turns.take(
        {
            "nightscribe": arm("nightscribe", lambda: nightscribe(bucket, files, rows)),
            "s3fs": arm("s3fs", lambda: by_pyarrow(plain, bucket, files, rows, pre_buffer=False)),
            "pyarrow": arm("pyarrow", lambda: by_pyarrow(other.open_input_file, bucket, files, rows, pre_buffer=True)),
        },
        repeats,
    )
    return {
        name: {
            "bytes_ratio": round(statistics.median(each[0] for each in cost[name]) / size, 3),
            "requests": round(statistics.median(each[1] for each in cost[name])),
            "seconds": round(statistics.median(seconds[name]), 2),
        }
        for name in cost
    }


def main() -> None:
    """Measure, print a table, then a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rows", type=int, default=50_000, help="rows of a file")
    parser.add_argument("--quick", action="store_true", help="small, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.repeats, arguments.rows = 1, 20_000
    with tempfile.TemporaryDirectory() as folder, minio.running(Path(folder) / "objects") as server:
        server.make_bucket("wide")
        content = [wide(arguments.rows, i) for i in range(arguments.files)]
        for i, each in enumerate(content):
            server.client().put_object(Bucket="wide", Key=f"{i}.parquet", Body=each)
        size = sum(map(chunks, content))
        found: dict[str, Any] = {"file_bytes": sum(map(len, content)), "chunk_bytes": size}
        with proxy.running(server.address) as between, s3.pointed_to(between.address, minio.USER, minio.PASSWORD):
            for name, delay_s in (("near", 0.0), ("20 ms away", LATENCY_S)):
                between.delay_s = delay_s
                found[name] = measure(between, "wide", arguments.files, arguments.rows, size, arguments.repeats)
    for part, figures in found.items():
        print(part, figures if isinstance(figures, int) else "")
        for what, value in figures.items() if isinstance(figures, dict) else ():
            print(f"  {what:<24}{value}")
    print(json.dumps({"bench": "object_store", **found, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
