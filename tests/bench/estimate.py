"""What `nightscribe plan --estimate` says, and what the run then takes.

    python -m tests.bench.estimate [--tasks classify ner embed generate none] [--times 1] [--repeats 3] [--quick]

For each task, repeat by repeat: the estimate in a process of its own, then the run in another one, into a new sink. The
rows are others in each repeat. The sample has some hundred rows at most (of `none` some thousands), so nearly all rows
of a run are unseen. Ratios are measured / estimated, medians of the repeats, with the smallest and the largest; the
last line is JSON.

    classify     DistilBERT-base's shape, float32, Parquet, texts of log-normal lengths
    ner          the same shape, windows over long texts, CSV: the number of rows is not known before
    embed        MiniLM-L6's shape, JSON lines
    generate     a small Llama that writes texts of log-normal lengths
    none         a task that does nothing: reading, writing, the ledger
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import torch
import yaml
from transformers import BertConfig, BertModel

from tests import tiny
from tests.bench import corpus, generate

FILES = 6
ROWS = {"classify": 480, "ner": 240, "embed": 1200, "generate": 192, "none": 1_200_000}
QUICK = {"classify": 24, "ner": 24, "embed": 60, "generate": 12, "none": 60_000}
COMPARED = ("rows", "tokens", "tokens with padding", "seconds")


def write(folder: Path, task: str, rows: int, seed: int) -> None:
    """The source of a task: six files."""
    folder.mkdir()
    if task == "none":
        corpus.write(folder, rows, file_rows=rows // FILES, short=True)
        return
    if task == "generate":
        generate.write(folder / "all.parquet", rows, seed)
        table = pq.read_table(folder / "all.parquet")
        (folder / "all.parquet").unlink()
    else:
        table = pa.table({"id": np.arange(rows), "text": corpus.texts(rows, seed)})
    for i in range(FILES):
        part = table.take(np.arange(i, rows, FILES))
        if task == "ner":
            pyarrow.csv.write_csv(part, folder / f"{i}.csv")
        elif task == "embed":
            (folder / f"{i}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part.to_pylist()))
        else:
            pq.write_table(part, folder / f"{i}.parquet")


def entry(task: str, folder: Path) -> dict[str, Any]:
    """The entry of a job file for a task, its model made."""
    if task == "none":
        return {"task": "tests.bench.tasks.noop", "column": "text", "into": "answer"}
    into = {"into": "answer", "dtype": "float32"}
    if task == "generate":
        model = str(generate.model(folder / "model"))
        how = {"prompt": generate.PROMPT, "max_new_tokens": generate.LONGEST}
        return {"task": "generate", "model": model} | how | into
    if task == "embed":
        return {"task": "embed", "column": "text", "model": str(minilm(folder / "minilm"))} | into
    return {"task": task, "column": "text", "model": str(corpus.distilbert(folder / "model", task))} | into


def minilm(folder: Path) -> Path:
    """An encoder of all-MiniLM-L6's shape with random weights."""
    torch.manual_seed(0)
    tiny.wordpiece(max_length=256, vocabulary=20_000).save_pretrained(folder)
    config = BertConfig(
        vocab_size=30522, hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536
    )
    BertModel(config).save_pretrained(folder)
    return folder


def command(*words: object, environment: dict[str, str]) -> Any:
    """What `nightscribe` prints as JSON."""
    line = [sys.executable, "-m", "jobs.cli", *map(str, words)]
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed: {done.stderr}")
    return json.loads(done.stdout if "--json" in words else done.stdout.splitlines()[-1])


def once(job: Path, source: Path, sink: Path, cache: Path) -> dict[str, float]:
    """The ratios of an estimate and the run after it, as the report of the run has them."""
    environment = os.environ | {"XDG_CACHE_HOME": str(cache)}
    keys = [f"source.path={source}", f"sink.path={sink}"]
    command("plan", job, *keys, "--estimate", "--json", environment=environment)
    report = command("run", job, *keys, "--quiet", environment=environment)
    kept = json.loads((sink / "_nightscribe" / "reports" / f"{report['run_id']}.json").read_text())
    numbers = {each["what"]: each for each in kept["estimate"]["numbers"]}
    found = {what: each["measured"] / each["estimated"] for what, each in numbers.items() if each["estimated"]}
    return found | {"measured_s": numbers["seconds"]["measured"], "sampled": kept["estimate"]["sampled"]}


def main() -> None:
    """Estimate and run in turn, and print medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=sorted(ROWS), default=list(ROWS), metavar="TASK")
    parser.add_argument("--times", type=int, default=1, help="multiply the number of rows")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows, one repeat")
    arguments = parser.parse_args()
    repeats = 1 if arguments.quick else arguments.repeats
    looks: dict[str, list[dict[str, float]]] = {task: [] for task in arguments.tasks}
    with tempfile.TemporaryDirectory() as name:
        for task in arguments.tasks:
            (folder := Path(name) / task).mkdir()
            content = {"name": task, "source": {"path": "in"}, "tasks": [entry(task, folder)], "sink": {"path": "out"}}
            (folder / "job.yaml").write_text(yaml.safe_dump(content))
        for repeat in range(repeats):
            for task in arguments.tasks:
                folder = Path(name) / task
                source = folder / f"in{repeat}"
                write(source, task, (QUICK if arguments.quick else ROWS)[task] * arguments.times, seed=repeat + 1)
                found = once(folder / "job.yaml", source, folder / f"out{repeat}", folder / f"cache{repeat}")
                looks[task].append(found)
                told = " ".join(f"{what} {found[what]:.2f}" for what in COMPARED if what in found)
                print(f"{repeat} {task:<10} {told}  ({found['measured_s']:.1f} s)", flush=True)
    summary: dict[str, Any] = {}
    for task, each in looks.items():
        summary[task] = {"seconds_measured": round(statistics.median(look["measured_s"] for look in each), 1)}
        summary[task] |= {"sampled": each[0]["sampled"]}
        for what in COMPARED:
            if ratios := [look[what] for look in each if what in look]:
                summary[task][what.replace(" ", "_")] = round(statistics.median(ratios), 3)
                summary[task][what.replace(" ", "_") + "_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    print(json.dumps({"bench": "estimate", "tasks": summary, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
