"""What everything but the model costs: microseconds a row, memory at ten times the rows, padding on a heavy tail.

    python -m tests.bench.overhead [--rows 300000]

Each arm runs in a process of its own, the sizes in turn, three times; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.bench import corpus


def arm(source: Path, sink: Path) -> dict[str, float]:
    """One job with the no-op task, file to file, in this process."""
    from jobs import run, spec

    # A run imports Beam when it has something to do; the clock is for rows, not for imports.
    from jobs.runners import beam  # noqa: F401
    from transforms import garbage, tasks

    tasks.__path__.append(str(Path(__file__).parent / "tasks"))
    job = {
        "name": "overhead",
        "source": {"path": str(source)},
        "tasks": [{"task": "noop", "column": "text", "into": "nothing"}],
        "sink": {"path": str(sink)},
    }
    parsed = spec.parse(job)
    # As the command does.
    garbage.seldom()
    started = time.perf_counter()
    report = run.run(parsed)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"rows": report.rows_out, "us_per_row": seconds / report.rows_out * 1e6, "peak_mib": peak}


def padding(folder: Path, rows: int = 4000) -> float:
    """Slots computed per real token, of a classifier over a heavy-tailed corpus at the CPU's budget."""
    from jobs import run, spec
    from tests import tiny

    model = tiny.bert(folder / "model", "classify", ["a", "b"])
    source = corpus.write(folder / "padding", rows)
    job = {
        "name": "padding",
        "source": {"path": str(source)},
        "tasks": [{"task": "classify", "column": "text", "model": str(model), "into": "label", "dtype": "float32"}],
        "sink": {"path": str(folder / "padding-out")},
    }
    report = run.run(spec.parse(job))
    return report.padded_tokens / report.tokens


def main() -> None:
    """Run the arms and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--arm", nargs=2, metavar=("SOURCE", "SINK"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(arm(*map(Path, arguments.arm))))
        return
    results: dict[int, list[dict[str, float]]] = {arguments.rows: [], arguments.rows * 10: []}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        sources = {rows: corpus.write(root / f"rows-{rows}", rows, short=True) for rows in results}
        for repeat in range(arguments.repeats):
            for rows, source in sources.items():
                sink = root / f"out-{rows}-{repeat}"
                command = [sys.executable, "-m", "tests.bench.overhead", "--arm", str(source), str(sink)]
                line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
                results[rows].append(json.loads(line))
                print(f"{rows:>9} rows: {line}", flush=True)
        padded = padding(root)
    small, large = (
        {key: statistics.median(result[key] for result in results[rows]) for key in ("us_per_row", "peak_mib")}
        for rows in results
    )
    summary = {
        "bench": "overhead",
        "us_per_row": round(large["us_per_row"], 2),
        "us_per_row_small": round(small["us_per_row"], 2),
        "peak_mib": round(large["peak_mib"]),
        "memory_ratio_at_10x_rows": round(large["peak_mib"] / small["peak_mib"], 3),
        "padded_slots_per_token": round(padded, 3),
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
