"""What a command takes before and around its rows: `plan` and `run` of ten rows, each in a process of its own.

    python -m tests.bench.startup [--repeats 5] [--quick]

The commands alternate; results are medians of seconds and of CPU seconds, which say more where others use the
machine; the last line is JSON. `imports` is what the libraries of a model need alone: torch, and the
modules of transformers that any model loads.

    imports          python -c "import torch, transformers.modeling_utils"
    lean imports     the same as a job does it (transforms.lean)
    plan first       a new sink: the model is checked
    run first        the same job, ten rows
    plan new rows    a later night with a new file
    run new rows     the same
    plan, run idle   a later night without new rows
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests import tiny
from tests.bench import corpus, turns

ROWS = 10
IMPORTS = {
    "imports": "import torch, transformers.modeling_utils",
    "lean imports": "import torch; from transforms import lean; lean.load()",
}


@dataclass(frozen=True)
class Taken:
    """What the processes of one arm took, repeat by repeat."""

    cpu_s: list[float] = field(default_factory=list)

    def process(self, *arguments: str) -> None:
        """Run Python with arguments, and note its CPU time.

        Raises:
            CalledProcessError: it failed.
        """
        started = subprocess.Popen([sys.executable, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(started.pid, 0)
        # Otherwise it would wait for a process that is gone.
        started.returncode = os.waitstatus_to_exitcode(status)
        if started.returncode:
            raise subprocess.CalledProcessError(started.returncode, started.args)
        self.cpu_s.append(usage.ru_utime + usage.ru_stime)


def command(folder: Path, name: str, taken: Taken, repeat: int) -> None:
    """`nightscribe NAME job.yaml` in the folder; the sink is emptied first if the command needs a new one."""
    what, night = name.split(" ", 1)
    if night == "first":
        shutil.rmtree(folder / "out", ignore_errors=True)
    if night == "new rows":
        table = pa.table({"text": tiny.texts(ROWS, seed=repeat)})
        pq.write_table(table, folder / "in" / f"{what}-{repeat}.parquet")
    taken.process("-m", "jobs.cli", what, str(folder / "job.yaml"))


def imports(code: str, taken: Taken, repeat: int) -> None:
    """What any process needs that loads a model."""
    taken.process("-c", code)


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
        taken = {name: Taken() for name in (*IMPORTS, *order)}
        arms: dict[str, Callable[[int], None]] = {
            name: partial(imports, code, taken[name]) for name, code in IMPORTS.items()
        }
        arms |= {name: partial(command, folder, name, taken[name]) for name in order}
        seconds = turns.take(arms, 1 if arguments.quick else arguments.repeats)
    medians = {
        name: {
            "seconds": round(statistics.median(values), 2),
            "cpu_s": round(statistics.median(taken[name].cpu_s), 2),
        }
        for name, values in seconds.items()
    }
    print(json.dumps({"bench": "startup", "medians": medians, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
