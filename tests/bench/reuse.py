"""What a night costs whose source is written whole again, with one row in a hundred changed.

    python -m tests.bench.reuse [--rows 1000000] [--us 200] [--repeats 3] [--quick]

    first night    every row is computed by a task that waits `--us` microseconds a row (5,000 rows a second, more than
                   any encoder gives on two cores), then written
    unchanged      the dump is written again in another order, and no row differs: what is left is to read the old rows
                   and the new ones, to find each of them, and to write them
    one percent    the same with 1 % of the rows changed
    scan           the source is read and nothing else

The last three take turns, `--repeats` times, each on what the one before has left. A night of one percent should cost
at most 5 % of the first night more than one in which nothing changed. On a machine that is shared, the seconds of the
processor say more than those of the clock; waiting takes none. Beam is imported before the clock starts. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from jobs import run, source, spec
from tests.bench import corpus, turns

FILE_ROWS = 250_000


class Dump:
    """A table with a key, a text of some 100 characters and a number, written whole each time.

    Args:
        folder: where its files are.
        rows: how many.
    """

    def __init__(self, folder: Path, rows: int):
        self.folder = folder
        self.random = np.random.default_rng(0)
        pool = [text[:90] for text in corpus.texts(2000)]
        self.texts = np.array([f"{pool[i % len(pool)]} {i}" for i in range(rows)], object)
        self.changes = 0

    def write(self, changed: float) -> None:
        """Write its files in a new order, with another text in a fraction of the rows."""
        rows = len(self.texts)
        for row in self.random.choice(rows, int(changed * rows), replace=False):
            self.changes += 1
            self.texts[row] = f"changed {self.changes} {self.texts[row][:90]}"
        self.folder.mkdir(exist_ok=True)
        order = self.random.permutation(rows)
        for start in range(0, rows, FILE_ROWS):
            ids = order[start : start + FILE_ROWS]
            texts = pa.array(self.texts[ids], pa.string())
            table = pa.table({"id": ids, "text": texts, "number": self.random.random(len(ids))})
            pq.write_table(table, self.folder / f"dump-{start:09d}.parquet", row_group_size=50_000)


def main() -> None:
    """Measure, print a table, then a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--us", type=int, default=200, help="cost of a row, in microseconds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="20,000 rows, once")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.rows, arguments.repeats = 20_000, 1
    # A run imports Beam when it has something to do; the clock is for rows, not for imports.
    from jobs.runners import beam  # noqa: F401
    from transforms import garbage, tasks

    tasks.__path__.append(str(Path(__file__).parent / "tasks"))
    # As the command does.
    garbage.seldom()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        dump = Dump(folder / "in", arguments.rows)
        job = spec.parse(
            {
                "name": "reuse",
                "source": {"path": str(dump.folder)},
                "tasks": [{"task": "slow", "column": "text", "into": "found", "us": arguments.us}],
                "sink": {"path": str(folder / "out")},
            }
        )
        dump.write(0)
        computed: dict[str, list[int]] = {}
        nights: dict[str, list[float]] = {}
        processor: dict[str, list[float]] = {}

        def night(name: str, changed: float | None = None) -> None:
            if changed is not None:
                dump.write(changed)
            started, used = time.perf_counter(), time.process_time()
            report = run.run(job)
            nights.setdefault(name, []).append(time.perf_counter() - started)
            processor.setdefault(name, []).append(time.process_time() - used)
            computed.setdefault(name, []).append(report.rows_out - report.rows_reused)

        def scan(repeat: int) -> None:
            planned, shards = source.plan(job.source)
            started = time.perf_counter()
            assert sum(len(b) for shard in shards for b in source.read(planned, shard, 16_384)) == arguments.rows
            nights.setdefault("scan", []).append(time.perf_counter() - started)

        night("first night")
        turns.take(
            {
                "unchanged": lambda _: night("unchanged", 0.0),
                "one percent": lambda _: night("one percent", 0.01),
                "scan": scan,
            },
            arguments.repeats,
        )
    seconds = {name: statistics.median(values) for name, values in nights.items()}
    print()
    for name, value in seconds.items():
        spread = f"{min(nights[name]):.2f} to {max(nights[name]):.2f}"
        rows = f"{computed[name][-1]:>10,} rows computed" if name in computed else ""
        rows += f", {statistics.median(processor[name]):.2f} s of the processor" if name in processor else ""
        print(f"{name:<14} {value:>8.2f} s   {spread:<18} {rows}")
    summary: dict[str, Any] = {
        "bench": "reuse",
        "rows": arguments.rows,
        "us_per_row": arguments.us,
        **{f"{name.replace(' ', '_')}_s": round(value, 2) for name, value in seconds.items()},
        **{f"{name.replace(' ', '_')}_cpu_s": round(statistics.median(v), 2) for name, v in processor.items()},
        "one_percent_more_than_unchanged_of_first_night": round(
            (seconds["one percent"] - seconds["unchanged"]) / seconds["first night"], 4
        ),
        "one_percent_of_first_night": round(seconds["one percent"] / seconds["first night"], 4),
        "unchanged_us_per_row": round(seconds["unchanged"] / arguments.rows * 1e6, 2),
        "rows_computed_of_one_percent": computed["one percent"][-1],
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
