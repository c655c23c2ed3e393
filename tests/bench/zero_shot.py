"""Pairs a second of a whole zero_shot job, file to file, against transformers' zero-shot-classification pipeline.

    python -m tests.bench.zero_shot [--rows 32] [--labels 4] [--repeats 3] [--process] [--cpu] [--quick]

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns,
repeat by repeat; medians are of the repeats; the last line is JSON, with the kind of processor. --process and --cpu are
those of `tests.bench.encoder`.

    job             nightscribe, in float32, in the half precision that it chooses here, if any, and in int8 on a CPU
    job later       int8 on a later night, which finds in the sink how well int8 agrees with float32
    pipeline 1      transformers.pipeline as it comes: one pair at a time
    pipeline 32     transformers.pipeline, batch_size=32
    pipeline best   the same with the batch size that is best here, found before the repeats; in the same dtypes
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from transformers import DistilBertConfig, DistilBertForSequenceClassification
from transformers.utils import logging

from tests.bench import alone, corpus, libraries, processor, tuning, turns
from tests.bench.order import Arm, Order
from transforms.device import choose_device, choose_dtype

BASE = "pipeline 32 float32"
LABELS = ["sports", "politics", "science and technology", "food", "travel", "health", "money", "art"]
LABELS += [f"topic {i}" for i in range(len(LABELS) + 1, 51)]
# Rows on which the pipeline's batch size is found.
TRIED_ROWS = {"cpu": 16, "cuda": 512}


def nli(folder: Path) -> Path:
    """The classifier of the corpus with the three labels of natural language inference."""
    corpus.distilbert(folder)
    labels = ["contradiction", "neutral", "entailment"]
    config = DistilBertConfig.from_pretrained(
        folder, id2label=dict(enumerate(labels)), label2id={label: i for i, label in enumerate(labels)}
    )
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


def arms_here() -> dict[str, Arm]:
    """The arms that can run here by name."""
    half = choose_dtype("auto", "auto")
    dtypes = ["float32", *([half] if half != "float32" else [])]
    if choose_device("auto").type == "cpu":
        dtypes.append("int8")
    job, stock = "tests.bench.arms:job", "tests.bench.libraries:zero_shot"
    found = {f"job {dtype}": Arm(job, dtype) for dtype in dtypes}
    if "int8" in dtypes:
        found["job later int8"] = Arm(job, "int8")
    found |= {f"pipeline {n} float32": Arm(stock, "float32", {"batch_size": n}) for n in (1, 32)}
    return found | {f"pipeline best {dtype}": Arm(stock, dtype, {}, "batch_size") for dtype in dtypes}


def best_batch(arm: str, order: Order, clock: Any) -> int:
    """The batch size at which the pipeline is fastest."""
    kind = choose_device("auto").type
    loaded, texts = libraries.classifier(order), tuning.rows_of(order)[: TRIED_ROWS[kind]]
    sizes = tuning.BATCH_SIZES[kind]
    tried = tuning.best(sizes, lambda size: loaded(texts, list(order.labels), batch_size=size), clock)
    tuning.say(arm, tried, "best batch size")
    return next(iter(tried))


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--labels", type=int, default=4, choices=range(2, len(LABELS) + 1), metavar="2..50")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="8 rows, once")
    parser.add_argument("--process", action="store_true", help="each arm in a process of its own, imports included")
    parser.add_argument("--cpu", action="store_true", help="CPU time instead of seconds on the clock")
    settings = parser.parse_args()
    processor.follow_emulation()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if settings.quick:
        settings.rows, settings.repeats = 8, 1
    clock = turns.cpu_seconds if settings.cpu else time.perf_counter
    labels, chosen, batches = tuple(LABELS[: settings.labels]), arms_here(), {}
    pairs = settings.rows * len(labels)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = nli(root / "model"), corpus.write(root / "source", settings.rows)
        calls, few = {}, corpus.write(root / "few", 2)
        for arm, how in chosen.items():
            order = Order("zero_shot", model, source, root / arm.replace(" ", "-"), how.dtype, labels)
            if how.tuned:
                batches[arm] = best_batch(arm, order, clock)
            more = how.more | ({how.tuned: batches[arm]} if how.tuned else {})
            calls[arm] = alone.timed(arm, how.call, more, order, settings.process, few)
        seconds = turns.take(calls, settings.repeats, clock)
    turns.show(seconds, pairs, "pairs/s", BASE)
    rate = turns.rates(seconds, pairs)
    summary: dict[str, Any] = {
        "bench": "zero_shot",
        "rows": settings.rows,
        "labels": len(labels),
        "repeats": settings.repeats,
        "clock": "CPU" if settings.cpu else "wall",
        "process": settings.process,
        "pairs_per_s": {name: round(value, 1) for name, value in rate.items()},
        "best_batch": batches,
        **turns.tell("zero_shot", rate),
        **turns.over(rate, "pipeline"),
        "processor": processor.describe(),
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
