"""Pairs a second of a whole zero_shot job, file to file, against transformers' zero-shot-classification pipeline.

    python -m tests.bench.zero_shot [--rows 32] [--labels 4] [--repeats 3]

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON.

    job          nightscribe
    pipeline     transformers.pipeline as it comes: one pair at a time
    pipeline 32  transformers.pipeline, batch_size=32
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import DistilBertConfig, DistilBertForSequenceClassification, pipeline

from jobs import run, spec
from tests.bench import corpus
from transforms.device import DTYPES, choose_device, choose_dtype

LABELS = ["sports", "politics", "science and technology", "food", "travel", "health", "money", "art"]


def nli(folder: Path) -> Path:
    """The classifier of the corpus with the three labels of natural language inference."""
    corpus.distilbert(folder)
    labels = ["contradiction", "neutral", "entailment"]
    config = DistilBertConfig.from_pretrained(
        folder, id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
    )
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


def job(model: Path, source: Path, sink: Path, labels: list[str], dtype: str) -> None:
    """The job, through the same call as the command."""
    task = {"task": "zero_shot", "column": "text", "labels": labels, "model": str(model), "into": "topic"}
    content = {
        "name": "zero-shot",
        "source": {"path": str(source)},
        "tasks": [task | {"dtype": dtype}],
        "sink": {"path": str(sink)},
    }
    run.run(spec.parse(content))


def stock(model: Path, source: Path, sink: Path, labels: list[str], dtype: str, batch_size: int) -> None:
    """transformers.pipeline."""
    classify = pipeline("zero-shot-classification", model=str(model), dtype=DTYPES[dtype], device=choose_device("auto"))
    table = pq.read_table(source)
    found = classify(table["text"].to_pylist(), labels, batch_size=batch_size)
    rows = [
        [{"label": label, "score": score} for label, score in zip(row["labels"], row["scores"], strict=True)]
        for row in found
    ]
    pq.write_table(table.append_column("topic", pa.array(rows)), sink, compression="zstd")


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--labels", type=int, default=4, choices=range(2, len(LABELS) + 1))
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    labels, fast = LABELS[: arguments.labels], choose_dtype("auto", "auto")
    arms: dict[str, tuple[Callable[..., None], tuple]] = {
        "job fp32": (job, ("float32",)),
        "pipeline fp32": (stock, ("float32", 1)),
        "pipeline 32 fp32": (stock, ("float32", 32)),
    }
    if fast != "float32":
        arms |= {
            "job auto": (job, ("auto",)),
            f"pipeline {fast}": (stock, (fast, 1)),
            f"pipeline 32 {fast}": (stock, (fast, 32)),
        }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    pairs = arguments.rows * len(labels)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = nli(root / "model"), corpus.write(root / "source", arguments.rows)
        for repeat in range(arguments.repeats):
            for name, (call, extra) in arms.items():
                started = time.perf_counter()
                call(model, source, root / f"{name}-{repeat}".replace(" ", "-"), labels, *extra)
                seconds[name].append(time.perf_counter() - started)
                print(f"{repeat} {name:<22} {pairs / seconds[name][-1]:>8,.1f} pairs/s", flush=True)
    rate = {name: pairs / statistics.median(values) for name, values in seconds.items()}
    print(f"\n{'arm':<22} {'pairs/s':>9} {'x':>7}   spread")
    for name, value in rate.items():
        spread = f"{pairs / max(seconds[name]):,.1f} to {pairs / min(seconds[name]):,.1f}"
        print(f"{name:<22} {value:>9,.1f} {value / rate['pipeline fp32']:>7.2f}   {spread}")
    best = max(rate[name] for name in rate if name.startswith("job"))
    summary = {
        "bench": "zero_shot",
        "rows": arguments.rows,
        "labels": len(labels),
        "repeats": arguments.repeats,
        "pairs_per_s": {name: round(value, 1) for name, value in rate.items()},
        "job_fp32_over_pipeline": round(rate["job fp32"] / rate["pipeline fp32"], 2),
        "job_fp32_over_pipeline_32": round(rate["job fp32"] / rate["pipeline 32 fp32"], 2),
        "best_job_over_pipeline_fp32": round(best / rate["pipeline fp32"], 2),
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
