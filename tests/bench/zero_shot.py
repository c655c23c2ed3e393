"""Pairs a second of a whole zero_shot job, file to file, against transformers' zero-shot-classification pipeline.

    python -m tests.bench.zero_shot [--rows 32] [--labels 4] [--repeats 3]

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON.

    job          nightscribe, in float32 and in the fastest dtype that it has here
    pipeline     transformers.pipeline as it comes: one pair at a time
    pipeline 32  transformers.pipeline, batch_size=32
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from transformers import DistilBertConfig, DistilBertForSequenceClassification, pipeline

from jobs import run, spec
from tests.bench import corpus, turns
from transforms.device import DTYPES, choose_device, choose_dtype

BASE = "pipeline float32"
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
        # Random weights put every label near its rivals: how fast a rounded model is does not depend on that.
        "tasks": [task | {"dtype": dtype, "min_agreement": 0.0}],
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
        "job float32": (job, ("float32",)),
        BASE: (stock, ("float32", 1)),
        "pipeline 32 float32": (stock, ("float32", 32)),
    }
    if fast != "float32":
        arms |= {
            f"job {fast}": (job, (fast,)),
            f"pipeline {fast}": (stock, (fast, 1)),
            f"pipeline 32 {fast}": (stock, (fast, 32)),
        }
    if choose_device("auto").type == "cpu":
        arms["job int8"] = (job, ("int8",))
    pairs = arguments.rows * len(labels)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = nli(root / "model"), corpus.write(root / "source", arguments.rows)

        def call(function: Callable[..., None], extra: tuple, arm: str, repeat: int) -> None:
            function(model, source, root / f"{arm}-{repeat}".replace(" ", "-"), labels, *extra)

        calls = {arm: partial(call, function, extra, arm) for arm, (function, extra) in arms.items()}
        seconds = turns.take(calls, arguments.repeats)
    turns.show(seconds, pairs, "pairs/s", BASE)
    rate = turns.rates(seconds, pairs)
    best = max(rate[name] for name in rate if name.startswith("job"))
    summary = {
        "bench": "zero_shot",
        "rows": arguments.rows,
        "labels": len(labels),
        "repeats": arguments.repeats,
        "pairs_per_s": {name: round(value, 1) for name, value in rate.items()},
        "job_fp32_over_pipeline": round(rate["job float32"] / rate[BASE], 2),
        "job_fp32_over_pipeline_32": round(rate["job float32"] / rate["pipeline 32 float32"], 2),
        "best_job_over_pipeline_fp32": round(best / rate[BASE], 2),
        "best_job_over_pipeline_32_fp32": round(best / rate["pipeline 32 float32"], 2),
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
