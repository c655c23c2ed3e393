"""Real tokens a second of whole classify and ner jobs, file to file, against what people write instead.

    python -m tests.bench.encoder [--task classify ner] [--lane fp32 best] [--rows 96] [--repeats 5] [--quick]
    python -m tests.bench.encoder --rows 3000 --process --loop-budget 2048 --peers onnx
    OMP_NUM_THREADS=1 python -m tests.bench.encoder --cpu

Every arm loads the model, reads the same Parquet files and writes Parquet; all of that is timed. The arms take turns,
repeat by repeat; medians are of the repeats; the last line is JSON, with the kind of processor. Two lanes: `fp32` has
everyone in float32; `best` has everyone in the fastest dtype that they have here, beside the pipeline in float32.

    job             nightscribe, texts cut off at the window as everyone cuts them
    job later       the same on a later night, which finds in the sink how well int8 agrees with float32
    bare loop       length-sorted batches of the budget that is best for this loop, tokenizer + model, nothing else
    plain loop      tokenizer + model over 32 rows at a time in arrival order, padded to the longest
    onnx sorted     ONNX Runtime over length-sorted batches of its best budget; exported beforehand, at nobody's charge
    onnx arrival    ONNX Runtime over 32 rows at a time
    pipeline N      transformers.pipeline, batch_size=N; 32 is what most guides show
    beam, ray, datasets   RunInference, Ray Data's map_batches, datasets.map with the plain loop's body

The best budgets are found before the repeats on up to 512 rows, or given by --loop-budget. With --process every arm is
a process of its own, and its imports are timed too: the job is then the command `nightscribe run`. With --cpu CPU time
is read, for a machine that is shared.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from transformers import AutoTokenizer

from tests.bench import arms, corpus, processor, tuning, turns, whole_jobs
from tests.bench.order import Arm, Order
from transforms.device import choose_device, choose_dtype

BASE = "pipeline 32 float32"


def lane(name: str) -> dict[str, Arm]:
    """The arms of a lane by name."""
    half = choose_dtype("auto", "auto")
    on_cpu = choose_device("auto").type == "cpu"
    pipes = (1, 32) if on_cpu else (1, 32, 128)
    if name == "fp32":
        found = _arms("float32", ("job", "bare loop", "plain loop", "onnx sorted", "onnx arrival"), pipes)
        peers = {"beam": "beam_run_inference", "ray": "ray_data", "datasets": "datasets_map"}
        return found | {f"{arm} float32": Arm(f"tests.bench.peers:{call}", "float32") for arm, call in peers.items()}
    best = _arms("float32", (), (32,))
    if half != "float32":
        best |= _arms(half, ("job", "bare loop"), pipes)
    if on_cpu:
        own = ("job", "job later", "bare loop", "plain loop", "onnx sorted", "onnx arrival")
        best |= _arms("int8", own, ())
    return best


def _arms(dtype: str, names: tuple[str, ...], pipes: tuple[int, ...]) -> dict[str, Arm]:
    loop = "tests.bench.arms:loop"
    known = {
        "job": Arm("tests.bench.arms:job", dtype),
        "job later": Arm("tests.bench.arms:job", dtype),
        "bare loop": Arm(loop, dtype, {"kind": "torch"}, "budget"),
        "plain loop": Arm(loop, dtype, {"kind": "torch"}),
        "onnx sorted": Arm(loop, dtype, {"kind": "onnx"}, "budget"),
        "onnx arrival": Arm(loop, dtype, {"kind": "onnx"}),
    }
    found = {f"{name} {dtype}": known[name] for name in names}
    return found | {f"pipeline {n} {dtype}": Arm("tests.bench.arms:pipe", dtype, {"batch_size": n}) for n in pipes}


def missing(arm: str, cpu: bool) -> str | None:
    """Why an arm cannot run here, or None."""
    if arm.startswith("onnx") and choose_device("auto").type != "cpu":
        return "compared on a CPU only"
    if arm.startswith("onnx") and processor.emulated():
        return "it does not follow the emulation of another processor"
    if arm.startswith("ray") and cpu:
        return "its workers' CPU time is not seen here"
    needs = {"onnx": ("onnxruntime", "onnxscript"), "ray": ("ray",)}.get(arm.split()[0], ())
    absent = [name for name in needs if importlib.util.find_spec(name) is None]
    return f"{', '.join(absent)} not installed; pip install 'nightscribe[bench]'" if absent else None


def measure(task: str, name: str, settings: argparse.Namespace) -> dict[str, Any]:
    """One lane of one task: its arms in turn, or those whose names start with one of `settings.only`."""
    chosen = {arm: how for arm, how in lane(name).items() if arm.startswith(settings.only or "")}
    for arm in list(chosen):
        if reason := missing(arm, settings.cpu):
            print(f"skipped {arm}: {reason}")
            del chosen[arm]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = corpus.distilbert(root / "model", task), corpus.write(root / "source", settings.rows)
        tokens, distinct = _tokens(model, source)
        if any(arm.startswith("onnx") for arm in chosen):
            arms.export_onnx(task, model)
        orders = {
            arm: Order(task, model, source, root / arm.replace(" ", "-"), how.dtype) for arm, how in chosen.items()
        }
        budgets = {
            arm: _budgets(arm, how, orders[arm], settings.loop_budget, settings.clock)
            for arm, how in chosen.items()
            if how.tuned is not None
        }
        if any(arm.startswith("ray") for arm in chosen) and not settings.process:
            from tests.bench import peers

            peers.ray_start()
        best = {arm: next(iter(tried)) for arm, tried in budgets.items()}
        calls = whole_jobs.calls(chosen, orders, best, settings.process, corpus.write(root / "few", 4))
        seconds = turns.take(calls, settings.repeats, settings.clock)
        if any(arm.startswith("ray") for arm in chosen) and not settings.process:
            peers.ray_stop()
    print(f"\n{task}, lane {name}, {settings.rows} rows, {distinct} distinct texts, {tokens} tokens")
    turns.show(seconds, tokens, "tokens/s", BASE)
    rate = turns.rates(seconds, tokens)
    found = turns.tell(f"{task} {name}", rate)
    job = str(found["best_job"])
    return {
        "tokens": tokens,
        "distinct_texts": distinct,
        "tokens_per_s": {arm: round(value) for arm, value in rate.items()},
        "best_budget": best,
        "job_over_pipeline_32": round(rate[job] / rate[BASE], 2),
        "job_over_bare_loop": round(rate[job] / rate[f"bare loop {job.split()[-1]}"], 3),
        **found,
    }


def _budgets(arm: str, how: Arm, order: Order, given: int | None, clock: Callable[[], float]) -> dict[int, float]:
    """Seconds of a loop at each budget, the best first; only the given one, if there is one."""
    if given is not None:
        return {given: 0.0}
    candidates = tuning.BUDGETS[choose_device("auto").type]
    tried = tuning.of_loop(order, str(how.more["kind"]), candidates, clock)
    tuning.say(arm, tried, "best budget")
    return tried


def _tokens(model: Path, source: Path) -> tuple[int, int]:
    """Tokens of the rows, and how many different texts they have."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    texts = pq.read_table(source)["text"].to_pylist()
    ids = tokenizer(texts, truncation=True, max_length=arms.MAX_LENGTH)["input_ids"]
    return sum(map(len, ids)), len(set(texts))


def main() -> None:
    """Run the lanes and print tables."""
    help_ = "all texts are distinct; 3000 for less noise"
    parser = whole_jobs.options(__doc__, rows=96, repeats=5, quick_rows=32, rows_help=help_)
    parser.add_argument("--task", nargs="+", choices=["classify", "ner"], default=["classify", "ner"])
    parser.add_argument("--lane", nargs="+", choices=["fp32", "best"], default=["fp32", "best"])
    parser.add_argument("--peers", nargs="+", default=[], help="only these beside job, bare loop and pipeline 32")
    parser.add_argument(
        "--loop-budget", type=int, help="slots of a batch of the length-sorted loops; default: the best"
    )
    settings = whole_jobs.begin(parser)
    settings.only = ("job", "bare loop", BASE, *settings.peers) if settings.peers else ()
    lanes = {f"{task} {name}": measure(task, name, settings) for task in settings.task for name in settings.lane}
    print(json.dumps({"bench": "encoder", "lanes": lanes, **whole_jobs.described(settings)}))


if __name__ == "__main__":
    main()
