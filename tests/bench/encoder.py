"""Real tokens a second of whole classify and ner jobs, file to file, against what people write instead.

    python -m tests.bench.encoder [--task classify ner] [--lane fp32 best] [--rows 96] [--repeats 5] [--quick]

Every arm loads the model, reads the same Parquet files and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON. Two lanes: `fp32` has everyone in
float32; `best` has everyone in the fastest dtype that they have here, beside the pipeline in float32.

    job             nightscribe, texts cut off at the window as everyone cuts them
    job later       the same on a later night, which finds in the sink how well int8 agrees with float32
    bare loop       the same batches (length-sorted, the same token budget), tokenizer + model, nothing else
    plain loop      tokenizer + model over 32 rows at a time in arrival order, padded to the longest
    onnx sorted     ONNX Runtime over the job's batches; exported beforehand, which nobody is charged for
    onnx arrival    ONNX Runtime over 32 rows at a time
    pipeline N      transformers.pipeline, batch_size=N; 32 is what most guides show
    beam, ray, datasets   RunInference, Ray Data's map_batches, datasets.map with the plain loop's body
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pyarrow.parquet as pq
from transformers import AutoTokenizer
from transformers.utils import logging

from tests.bench import arms, corpus, peers, turns
from tests.bench.arms import Order
from transforms.device import choose_device, choose_dtype

Arm = tuple[Callable[..., None], str]
BASE = "pipeline 32 float32"


def lane(name: str) -> dict[str, Arm]:
    """The arms of a lane: name -> (function, dtype)."""
    budget, arrival = partial(arms.loop, batches="budget"), partial(arms.loop, batches="arrival")
    pipes = {n: partial(arms.pipe, batch_size=n) for n in (1, 32)}
    onnx = {
        "onnx sorted": partial(arms.loop, batches="budget", kind=arms.OnnxLoop),
        "onnx arrival": partial(arms.loop, batches="arrival", kind=arms.OnnxLoop),
    }
    if name == "fp32":
        own = {"job": arms.job, "bare loop": budget, "plain loop": arrival}
        theirs = {"beam": peers.beam_run_inference, "ray": peers.ray_data, "datasets": peers.datasets_map}
        all_ = own | onnx | {f"pipeline {n}": call for n, call in pipes.items()} | theirs
        return {f"{arm} float32": (call, "float32") for arm, call in all_.items()}
    half = choose_dtype("auto", "auto")
    on_cpu = choose_device("auto").type == "cpu"
    best: dict[str, Arm] = {BASE: (pipes[32], "float32")}
    if half != "float32":
        best |= {f"job {half}": (arms.job, half), f"bare loop {half}": (budget, half)}
        best |= {f"pipeline {n} {half}": (call, half) for n, call in pipes.items()}
    if on_cpu:
        best |= {
            "job int8": (arms.job, "int8"),
            "job later int8": (arms.later_night, "int8"),
            "bare loop int8": (budget, "int8"),
            "plain loop int8": (arrival, "int8"),
        }
        best |= {f"{arm} int8": (call, "int8") for arm, call in onnx.items()}
    return best


def missing(arm: str) -> str | None:
    """Why an arm cannot run here, or None."""
    if arm.startswith("onnx") and choose_device("auto").type != "cpu":
        return "compared on a CPU only"
    needs = {"onnx": ("onnxruntime", "onnxscript"), "ray": ("ray",)}.get(arm.split()[0], ())
    absent = [name for name in needs if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed; pip install 'nightscribe[bench]'" if absent else None


def measure(task: str, name: str, rows: int, repeats: int, only: tuple[str, ...]) -> dict[str, object]:
    """One lane of one task: its arms in turn, or those whose names start with one of `only`."""
    chosen = {arm: call for arm, call in lane(name).items() if arm.startswith(only or "")}
    for arm in list(chosen):
        if reason := missing(arm):
            print(f"skipped {arm}: {reason}")
            del chosen[arm]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = corpus.distilbert(root / "model", task), corpus.write(root / "source", rows)
        tokens = _tokens(model, source)
        if any(arm.startswith("onnx") for arm in chosen):
            arms.export_onnx(task, model)
        if any(arm.startswith("ray") for arm in chosen):
            peers.ray_start()

        def call(function: Callable[..., None], dtype: str, arm: str, repeat: int) -> None:
            function(Order(task, model, source, root / f"{arm}-{repeat}".replace(" ", "-"), dtype))

        calls = {arm: partial(call, function, dtype, arm) for arm, (function, dtype) in chosen.items()}
        seconds = turns.take(calls, repeats)
        if any(arm.startswith("ray") for arm in chosen):
            peers.ray_stop()
    print(f"\n{task}, lane {name}, {rows} rows, {tokens} tokens")
    turns.show(seconds, tokens, "tokens/s", BASE)
    rate = turns.rates(seconds, tokens)
    job = max((arm for arm in rate if arm.startswith("job")), key=lambda arm: rate[arm])
    bare = rate[f"bare loop {job.split()[-1]}"]
    return {
        "tokens": tokens,
        "tokens_per_s": {arm: round(value) for arm, value in rate.items()},
        "job_over_pipeline_32": round(rate[job] / rate[BASE], 2),
        "job_over_bare_loop": round(rate[job] / bare, 3),
        "first": job == max(rate, key=lambda arm: rate[arm]),
    }


def _tokens(model: Path, source: Path) -> int:
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = pq.read_table(source)["text"].to_pylist()
    return sum(map(len, tokenizer(texts, truncation=True, max_length=arms.MAX_LENGTH)["input_ids"]))


def main() -> None:
    """Run the lanes and print tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", nargs="+", choices=["classify", "ner"], default=["classify", "ner"])
    parser.add_argument("--lane", nargs="+", choices=["fp32", "best"], default=["fp32", "best"])
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="32 rows, once")
    parser.add_argument("--peers", nargs="+", default=[], help="only these beside job, bare loop and pipeline 32")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    rows, repeats = (32, 1) if arguments.quick else (arguments.rows, arguments.repeats)
    only = ("job", "bare loop", BASE, *arguments.peers) if arguments.peers else ()
    lanes = {
        f"{task} {name}": measure(task, name, rows, repeats, only) for task in arguments.task for name in arguments.lane
    }
    summary = {"bench": "encoder", "rows": rows, "repeats": repeats, "lanes": lanes, "versions": corpus.versions()}
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
