"""Memory of N processes that hold the same model: how much of it they share, and how much each has for itself.

    python -m tests.bench.weights [--processes 1 2 4] [--dtypes float32 bfloat16 int8] [--quick]

DistilBERT-base's shape, 268 MB in float32, loaded and computed as a job does. Arms, all in processes of their own:

    none        the imports alone; what the other arms have more than this is the model
    job         as a job loads it: what is not laid out for the processor stays a map of the file, one copy for all
    private     as a job loads it, then every weight copied: nothing is shared
    unpacked    the network without the layout for the processor: slower, and every weight stays a map of the file

The memory is the proportional share (PSS) of all processes together, after one batch; the last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import psutil

from tests.bench import corpus

ARMS = ("none", "job", "private", "unpacked")


def child(arm: str, folder: str, dtype: str) -> None:
    """Load the model, compute a batch, say so, and wait for the end of the input."""
    import torch

    from transforms import engines, model
    from transforms.reference import ModelRef

    kept: list[Any] = []
    if arm == "unpacked":
        engines._pack = lambda network, checked: None
    if arm != "none":
        loaded = model.load(ModelRef(folder, dtype=dtype, device="cpu"), "AutoModelForSequenceClassification")
        if arm == "private":
            for tensor in (*loaded.network.parameters(), *loaded.network.buffers()):
                tensor.data = tensor.data.clone()
        with torch.no_grad():
            ids = torch.arange(512).reshape(4, 128)
            loaded.compute(input_ids=ids, attention_mask=torch.ones_like(ids))
            # A batch reads few rows of the embeddings, and a night reads most of them.
            kept.append(sum(float(weights.sum()) for weights in loaded.network.parameters()))
        kept.append(loaded)
    print("ready", flush=True)
    sys.stdin.read()


def measured(arm: str, folder: Path, dtype: str, processes: int) -> float:
    """MiB of so many processes together."""
    command = [sys.executable, "-m", "tests.bench.weights", "--child", arm, str(folder), dtype]
    started = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(processes)
    ]
    try:
        for process in started:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"{arm} in {dtype} could not be loaded")
        return sum(psutil.Process(process.pid).memory_full_info().pss for process in started) / 2**20
    finally:
        for process in started:
            process.communicate()


def main() -> None:
    """Measure the arms in turn, and print the memory that is the model's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4])
    parser.add_argument("--dtypes", nargs="+", default=["float32", "bfloat16", "int8"])
    parser.add_argument("--quick", action="store_true", help="one dtype, two processes")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(*arguments.child)
        return
    counts, dtypes = ([2], ["float32"]) if arguments.quick else (arguments.processes, arguments.dtypes)
    found: dict[str, dict[str, dict[str, int]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = corpus.distilbert(Path(name) / "model")
        for dtype in dtypes:
            for count in counts:
                total = {arm: measured(arm, folder, dtype, count) for arm in ARMS}
                of_model = {arm: round(total[arm] - total["none"]) for arm in ARMS[1:]}
                found.setdefault(dtype, {})[str(count)] = of_model | {"imports": round(total["none"])}
                print(f"{dtype:<10}{count} processes", *(f"{k} {v:,} MiB" for k, v in of_model.items()), flush=True)
    print(json.dumps({"bench": "weights", "model_mib": found, "versions": corpus.versions()}))


if __name__ == "__main__":
    main()
