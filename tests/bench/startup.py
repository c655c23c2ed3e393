"""Seconds that a command takes before and around its rows: `plan` and `run` of ten rows, each in a process of its own.

    python -m tests.bench.startup [--repeats 5] [--quick]

The commands alternate; results are medians; the last line is JSON. `imports` is what the libraries of a model need
alone: torch, and the modules of transformers that any model loads.

    imports          python -c "import torch, transformers.modeling_utils"
    plan first       a new sink: the model is checked
    run first        the same job, ten rows
    plan new rows    a later night with a new file
    run new rows     the same
    plan, run idle   a later night without new rows
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests import tiny
from tests.bench import corpus, turns

ROWS = 10


def command(folder: Path, name: str, repeat: int) -> None:
    """`nightscribe NAME job.yaml` in the folder; the sink is emptied first if the command needs a new one."""
    what, night = name.split(" ", 1)
    if night == "first":
        shutil.rmtree(folder / "out", ignore_errors=True)
    if night == "new rows":
        table = pa.table({"text": tiny.texts(ROWS, seed=repeat)})
        pq.write_table(table, folder / "in" / f"{what}-{repeat}.parquet")
    subprocess.run(
        [sys.executable, "-m", "jobs.cli", what, str(folder / "job.yaml")],
        check=True,
        capture_output=True,
    )


def imports(repeat: int) -> None:
    """What any process needs that loads a model."""
    subprocess.run([sys.executable, "-c", "import torch, transformers.modeling_utils"], check=True)


def main() -> None:
    """Run the commands in turn and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one repeat")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        pq.write_table(pa.table({"text": tiny.texts(ROWS)}), folder / "in" / "a.parquet")
        model = tiny.bert(folder / "model", "classify", ["a", "b"])
        job = {
            "name": "startup",
            "source": {"path": str(folder / "in")},
            "tasks": [{"task": "classify", "column": "text", "model": str(model), "into": "label"}],
            "sink": {"path": str(folder / "out")},
        }
        (folder / "job.yaml").write_text(yaml.safe_dump(job))
        order = ("plan first", "run first", "plan new rows", "run new rows", "plan idle", "run idle")
        arms = {"imports": imports} | {name: partial(command, folder, name) for name in order}
        seconds = turns.take(arms, 1 if arguments.quick else arguments.repeats)
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    print(json.dumps({"bench": "startup", "seconds": medians, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
