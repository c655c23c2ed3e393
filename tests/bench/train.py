"""Training samples a second of `jobs.training` against a bare loop of transformers' Trainer on the same rows.

    python -m tests.bench.train [--rows 256] [--repeats 3] [--lane even heavy-tailed] [--quick]

Both train the same LoRA adapter on a classifier of DistilBERT-base's shape with random weights, in float32, with the
same rows, batch size, epochs and learning rate. Each arm is a process of its own; the arms alternate; what is timed is
the call of `Trainer.train`, without imports, loading and tokenising: seconds on the clock, and CPU seconds, which are
what counts on a shared machine (set OMP_NUM_THREADS=1 there). Medians are of the repeats; the last line is JSON.

    job      the child process of jobs.training, with its checkpoints
    bare     Trainer with its own defaults: rows in random order, each batch padded to its longest row
    bare, by length   the same with train_sampling_strategy="group_by_length" of transformers

The lane `heavy-tailed` has texts of log-normal length (median 50 words, cut off at 512 tokens); `even` has texts of 60
words each, where batches by length save nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench import corpus

LABELS = ("bad", "good")
ARGUMENTS = {"per_device_train_batch_size": 16, "num_train_epochs": 1, "learning_rate": 2e-4}
LORA = {"r": 8, "lora_alpha": 16, "target_modules": ["q_lin", "v_lin"]}
ARMS = ("job", "bare", "bare, by length")
LANES = ("heavy-tailed", "even")
EVEN_WORDS = 60


def labelled(lane: str, rows: int, seed: int) -> pa.Table:
    """Labelled texts of a lane."""
    if lane == "even":
        words = [word for text in corpus.texts(rows * 4, seed) for word in text.split()]
        texts = [" ".join(words[i * EVEN_WORDS : (i + 1) * EVEN_WORDS]) for i in range(rows)]
    else:
        texts = corpus.texts(rows, seed)
    return pa.table({"text": texts, "label": [LABELS[i % 2] for i in range(rows)]})


def job(folder: Path) -> None:
    """What the child process of nightscribe does."""
    from jobs.training import child, data, request, spec, train

    sections = {"train": {"path": str(folder / "rows.parquet")}, "holdout": {"path": str(folder / "holdout.parquet")}}
    content = {
        "name": "bench",
        "task": "classify",
        "base": {"model": str(folder / "model")},
        "data": sections | {"validation": 0},
        "training": ARGUMENTS,
        "adapter": LORA,
        "registry": str(folder / "registry"),
    }
    parsed = spec.parse(content)
    rows = data.load(parsed)
    assert len(rows.train) == pq.read_metadata(folder / "rows.parquet").num_rows
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        pq.write_table(rows.train, work / request.TRAIN)
        pq.write_table(rows.validation, work / request.VALIDATION)
        child.learn(work, train.request_of(parsed, rows))


def bare(folder: Path, **more: Any) -> None:
    """A training by a Trainer as its documentation shows it."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

    table = pq.read_table(folder / "rows.parquet")
    tokenizer = AutoTokenizer.from_pretrained(folder / "model")
    encoded = tokenizer(table["text"].to_pylist(), truncation=True, max_length=512)
    rows = Dataset.from_dict(dict(encoded) | {"labels": [LABELS.index(label) for label in table["label"].to_pylist()]})
    network = AutoModelForSequenceClassification.from_pretrained(folder / "model", num_labels=len(LABELS))
    config = LoraConfig(task_type="SEQ_CLS", modules_to_save=["pre_classifier", "classifier"], **LORA)
    with tempfile.TemporaryDirectory() as work:
        arguments = TrainingArguments(
            output_dir=work,
            use_cpu=not torch.cuda.is_available(),
            dataloader_pin_memory=torch.cuda.is_available(),
            report_to="none",
            disable_tqdm=True,
            **ARGUMENTS,
            **more,
        )
        trainer = Trainer(
            model=get_peft_model(network, config), args=arguments, train_dataset=rows, processing_class=tokenizer
        )
        trainer.train()


def arm(name: str, folder: Path) -> dict[str, float]:
    """Seconds and CPU seconds of the first `Trainer.train` of one arm, in this process."""
    from transformers import Trainer

    found: dict[str, float] = {}
    whole = Trainer.train

    def timed(self: Trainer, *given: Any, **named: Any) -> Any:
        clock, cpu = time.perf_counter(), time.process_time()
        output = whole(self, *given, **named)
        if not found:
            found.update(seconds=time.perf_counter() - clock, cpu_seconds=time.process_time() - cpu)
        return output

    Trainer.train = timed
    match name:
        case "job":
            job(folder)
        case "bare":
            bare(folder)
        case _:
            bare(folder, train_sampling_strategy="group_by_length")
    return found


def measure(lane: str, rows: int, repeats: int, model: Path, folder: Path) -> dict[str, Any]:
    """The arms of a lane in turn."""
    folder.mkdir()
    (folder / "model").symlink_to(model)
    pq.write_table(labelled(lane, rows, seed=0), folder / "rows.parquet")
    pq.write_table(labelled(lane, 16, seed=1), folder / "holdout.parquet")
    found: dict[str, list[dict[str, float]]] = {name: [] for name in ARMS}
    for repeat in range(repeats):
        for name in ARMS:
            command = [sys.executable, "-m", "tests.bench.train", "--arm", name, str(folder)]
            line = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            found[name].append(json.loads(line))
            print(f"{lane} {repeat} {name:<16} {line}", flush=True)
    rates = {key: _rates(found, key, rows) for key in ("seconds", "cpu_seconds")}
    return {
        "samples_per_s": {name: round(value, 2) for name, value in rates["seconds"].items()},
        "samples_per_cpu_s": {name: round(value, 2) for name, value in rates["cpu_seconds"].items()},
        "job_over_bare": round(rates["seconds"]["job"] / rates["seconds"]["bare"], 2),
        "job_over_bare_cpu": round(rates["cpu_seconds"]["job"] / rates["cpu_seconds"]["bare"], 2),
        "job_over_bare_by_length_cpu": round(rates["cpu_seconds"]["job"] / rates["cpu_seconds"]["bare, by length"], 2),
    }


def _rates(found: dict[str, list[dict[str, float]]], key: str, rows: int) -> dict[str, float]:
    """Samples a second of each arm by the median of its repeats, printed as a table."""
    values = {name: [each[key] for each in every] for name, every in found.items()}
    rate = {name: rows / statistics.median(every) for name, every in values.items()}
    print(f"\n{'arm':<16} {'samples by ' + key:>22} {'x':>6}   spread")
    for name, every in values.items():
        spread = f"{rows / max(every):.2f} to {rows / min(every):.2f}"
        print(f"{name:<16} {rate[name]:>22.2f} {rate[name] / rate['bare']:>6.2f}   {spread}")
    return rate


def versions() -> dict[str, str]:
    """The libraries that a figure depends on."""
    import accelerate
    import peft

    return corpus.versions() | {"peft": peft.__version__, "accelerate": accelerate.__version__}


def main() -> None:
    """Run the lanes and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lane", nargs="+", choices=LANES, default=list(LANES))
    parser.add_argument("--quick", action="store_true", help="32 rows, once")
    parser.add_argument("--arm", nargs=2, metavar=("NAME", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.arm:
        print(json.dumps(arm(arguments.arm[0], Path(arguments.arm[1]))))
        return
    rows, repeats = (32, 1) if arguments.quick else (arguments.rows, arguments.repeats)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        model = corpus.distilbert(root / "model")
        lanes = {lane: measure(lane, rows, repeats, model, root / lane) for lane in arguments.lane}
    summary = {"bench": "train", "rows": rows, "repeats": repeats, "lanes": lanes, "versions": versions()}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
