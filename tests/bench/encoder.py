"""Real tokens a second of a whole classify job, file to file, against what people write instead.

    python -m tests.bench.encoder [--rows 256] [--repeats 3]

Every arm loads the model, reads the same Parquet files and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON.

    job          nightscribe
    bare loop    the same batches (length-sorted, the same token budget), tokenizer + model, nothing else
    plain loop   tokenizer + model over 32 rows at a time in arrival order, padded to the longest
    pipeline 1   transformers.pipeline, batch_size=1
    pipeline 32  transformers.pipeline, batch_size=32: what most guides show
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from jobs import run, spec
from tests.bench import corpus
from transforms.batches import MAX_TOKENS
from transforms.device import DTYPES, choose_device, choose_dtype

MAX_LENGTH = 512


def job(model: Path, source: Path, sink: Path, dtype: str) -> None:
    """The job, through the same call as the command."""
    content = {
        "name": "encoder",
        "source": {"path": str(source)},
        "tasks": [{"task": "classify", "column": "text", "model": str(model), "into": "label", "dtype": dtype}],
        "sink": {"path": str(sink)},
    }
    run.run(spec.parse(content))


def loop(model: Path, source: Path, sink: Path, dtype: str, order: str) -> None:
    """Tokenizer and model by hand, with the job's batches (`budget`) or 32 rows at a time (`arrival`)."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    device = choose_device("auto")
    network = AutoModelForSequenceClassification.from_pretrained(model, dtype=DTYPES[dtype]).to(device).eval()
    table = pq.read_table(source)
    texts = table["text"].to_pylist()
    ids = tokenizer(texts, truncation=True, max_length=MAX_LENGTH, return_token_type_ids=False)["input_ids"]
    if order == "budget":
        waiting = sorted(range(len(ids)), key=lambda i: -len(ids[i]))
        batches = []
        while waiting:
            n = max(1, MAX_TOKENS[device.type] // len(ids[waiting[0]]))
            batches.append(waiting[:n])
            waiting = waiting[n:]
    else:
        batches = [list(range(i, min(i + 32, len(ids)))) for i in range(0, len(ids), 32)]
    scores = np.zeros((len(ids), network.config.num_labels), np.float32)
    with torch.inference_mode():
        for batch in batches:
            inputs = tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(device)
            scores[batch] = network(**inputs).logits.float().softmax(-1).cpu().numpy()
    _write(table, scores.argmax(1), scores.max(1), network.config.id2label, sink)


def stock(model: Path, source: Path, sink: Path, dtype: str, batch_size: int) -> None:
    """transformers.pipeline."""
    classify = pipeline("text-classification", model=str(model), dtype=DTYPES[dtype], device=choose_device("auto"))
    table = pq.read_table(source)
    results = classify(table["text"].to_pylist(), batch_size=batch_size, truncation=True, max_length=MAX_LENGTH)
    rows = pa.array(results, pa.struct([("label", pa.string()), ("score", pa.float32())]))
    pq.write_table(table.append_column("label", rows), sink, compression="zstd")


def _write(table: pa.Table, best: np.ndarray, score: np.ndarray, names: dict[int, str], sink: Path) -> None:
    labels = pa.StructArray.from_arrays([[names[i] for i in best], score.astype(np.float32)], ["label", "score"])
    pq.write_table(table.append_column("label", labels), sink, compression="zstd")


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    fast = choose_dtype("auto", "auto")
    arms: dict[str, tuple[Callable[..., None], tuple]] = {
        "job fp32": (job, ("float32",)),
        "bare loop fp32": (loop, ("float32", "budget")),
        "plain loop fp32": (loop, ("float32", "arrival")),
        "pipeline 1 fp32": (stock, ("float32", 1)),
        "pipeline 32 fp32": (stock, ("float32", 32)),
    }
    if fast != "float32":
        arms |= {
            "job auto": (job, ("auto",)),
            f"bare loop {fast}": (loop, (fast, "budget")),
            f"pipeline 1 {fast}": (stock, (fast, 1)),
            f"pipeline 32 {fast}": (stock, (fast, 32)),
        }
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = corpus.distilbert(root / "model"), corpus.write(root / "source", arguments.rows)
        tokenizer = AutoTokenizer.from_pretrained(model)
        encoded = tokenizer(pq.read_table(source)["text"].to_pylist(), truncation=True, max_length=MAX_LENGTH)
        tokens = sum(map(len, encoded["input_ids"]))
        for repeat in range(arguments.repeats):
            for name, (call, extra) in arms.items():
                started = time.perf_counter()
                call(model, source, root / f"{name}-{repeat}".replace(" ", "-"), *extra)
                seconds[name].append(time.perf_counter() - started)
                print(f"{repeat} {name:<20} {tokens / seconds[name][-1]:>9,.0f} tokens/s", flush=True)
    rate = {name: tokens / statistics.median(values) for name, values in seconds.items()}
    base = rate["pipeline 32 fp32"]
    print(f"\n{'arm':<20} {'tokens/s':>10} {'x':>7}   spread")
    for name, value in rate.items():
        spread = f"{tokens / max(seconds[name]):,.0f} to {tokens / min(seconds[name]):,.0f}"
        print(f"{name:<20} {value:>10,.0f} {value / base:>7.1f}   {spread}")
    summary = {
        "bench": "encoder",
        "rows": arguments.rows,
        "tokens": tokens,
        "repeats": arguments.repeats,
        "tokens_per_s": {name: round(value) for name, value in rate.items()},
        "job_fp32_over_pipeline_32": round(rate["job fp32"] / base, 2),
        "job_auto_over_pipeline_32": round(rate.get("job auto", rate["job fp32"]) / base, 2),
        "job_over_bare_loop_fp32": round(rate["job fp32"] / rate["bare loop fp32"], 3),
        "job_over_bare_loop_auto": round(rate["job auto"] / rate[f"bare loop {fast}"], 3)
        if "job auto" in rate
        else None,
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
