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

import json
import tempfile
from pathlib import Path
from typing import Any

from transformers import DistilBertConfig, DistilBertForSequenceClassification

from tests.bench import corpus, libraries, tuning, turns, whole_jobs
from tests.bench.order import Arm, Order
from transforms.device import choose_device

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
    stock = "tests.bench.libraries:zero_shot"
    plain = {f"pipeline {n} float32": Arm(stock, "float32", {"batch_size": n}) for n in (1, 32)}
    tuned = {f"pipeline best {dtype}": Arm(stock, dtype, {}, "batch_size") for dtype in whole_jobs.dtypes()}
    return whole_jobs.jobs() | plain | tuned


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
    parser = whole_jobs.options(__doc__, rows=32, repeats=3, quick_rows=8)
    parser.add_argument("--labels", type=int, default=4, choices=range(2, len(LABELS) + 1), metavar="2..50")
    settings = whole_jobs.begin(parser)
    labels, chosen = tuple(LABELS[: settings.labels]), arms_here()
    pairs = settings.rows * len(labels)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = nli(root / "model"), corpus.write(root / "source", settings.rows)
        orders = {
            arm: Order("zero_shot", model, source, root / arm.replace(" ", "-"), how.dtype, labels)
            for arm, how in chosen.items()
        }
        batches = {arm: best_batch(arm, orders[arm], settings.clock) for arm, how in chosen.items() if how.tuned}
        calls = whole_jobs.calls(chosen, orders, batches, settings.process, corpus.write(root / "few", 2))
        seconds = turns.take(calls, settings.repeats, settings.clock)
    turns.show(seconds, pairs, "pairs/s", BASE)
    rate = turns.rates(seconds, pairs)
    summary: dict[str, Any] = {
        "bench": "zero_shot",
        "labels": len(labels),
        "pairs_per_s": {name: round(value, 1) for name, value in rate.items()},
        "best_batch": batches,
        **turns.tell("zero_shot", rate),
        **turns.over(rate, "pipeline"),
        **whole_jobs.described(settings),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
