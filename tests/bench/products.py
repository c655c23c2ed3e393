"""The matrix products of an encoder alone, and how much of their speed its network reaches.

    python -m tests.bench.products [--slots 1024] [--repeats 5] [--quick]

DistilBERT's shape, one batch of full rows without padding, one thread and CPU time. `alone` are the products of all
layers one after the other, in the layouts that the engine uses; `network` is the forward pass of a token classifier,
which computes every token of every layer; its GOP/s count the products only. The arms take turns. The last line is
JSON: GOP/s of each dtype, and the share of `network` in `alone`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForTokenClassification

from tests.bench import corpus
from transforms.device import has_bfloat16
from transforms.engines.int8 import Int8Linear, steps_of
from transforms.engines.packed import PackedLinear
from transforms.model import Model, forward, load
from transforms.reference import ModelRef
from transforms.rounding import Rounding

WIDTH, INNER, LAYERS, LENGTH = 768, 3072, 6, 128
# Inputs and outputs of a layer's products: queries, keys and values together; output; up; down.
SHAPES = ((WIDTH, 3 * WIDTH), (WIDTH, WIDTH), (WIDTH, INNER), (INNER, WIDTH))


def alone(dtype: str, slots: int) -> Callable[[], Any]:
    """The products of all layers, nothing between them."""
    calls = []
    for inputs, outputs in SHAPES:
        linear, rows = nn.Linear(inputs, outputs), torch.randn(slots, inputs)
        if dtype == "int8":
            layer = Int8Linear(linear)
            layer.input = steps_of(-4.0, 4.0, layer.steps)
            calls.append((layer, torch.randint(0, layer.steps, (slots, inputs), dtype=torch.uint8)))
        else:
            kind = getattr(torch, dtype)
            calls.append((PackedLinear(linear.to(kind)), rows.to(kind)))

    def compute() -> None:
        with torch.inference_mode():
            for _ in range(LAYERS):
                for layer, rows in calls:
                    layer(rows)

    return compute


def network(folder: Path, dtype: str, slots: int, fixed: bool = True) -> Callable[[], Any]:
    """A forward pass; int8 with fixed ranges, or with one per batch."""
    ids = torch.randint(5, 20_000, (slots // LENGTH, LENGTH)).tolist()
    ref = ModelRef(str(folder), device="cpu", dtype=dtype)
    if dtype != "int8" or not fixed:
        model: Model = load(ref, AutoModelForTokenClassification)
    else:
        rounding = Rounding(ref, AutoModelForTokenClassification)
        with rounding.observed(ranges := {}):
            forward(rounding.exact, ids)
        model = rounding.rounded(ranges)
    return lambda: forward(model, ids)


def main() -> None:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=1024, help=f"token positions of the batch, a multiple of {LENGTH}")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="128 slots, once")
    arguments = parser.parse_args()
    slots, repeats = (LENGTH, 1) if arguments.quick else (arguments.slots, arguments.repeats)
    torch.set_num_threads(1)
    dtypes = ["float32", *(["bfloat16"] if has_bfloat16() else []), "int8"]
    arms: dict[str, Callable[[], Any]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = corpus.distilbert(Path(temporary), "ner")
        for dtype in dtypes:
            arms[f"{dtype} alone"] = alone(dtype, slots)
            arms[f"{dtype} network"] = network(folder, dtype, slots)
        arms["int8 network, range per batch"] = network(folder, "int8", slots, fixed=False)
        seconds: dict[str, list[float]] = {arm: [] for arm in arms}
        for turn in range(repeats + 1):
            for arm, call in arms.items():
                started = time.process_time()
                call()
                if turn:
                    seconds[arm].append(time.process_time() - started)
    operations = 2 * LAYERS * slots * sum(inputs * outputs for inputs, outputs in SHAPES)
    rates = {arm: round(operations / statistics.median(each) / 1e9) for arm, each in seconds.items()}
    shares = {dtype: round(rates[f"{dtype} network"] / rates[f"{dtype} alone"], 2) for dtype in dtypes}
    shares["int8, range per batch"] = round(rates["int8 network, range per batch"] / rates["int8 alone"], 2)
    for arm, rate in rates.items():
        print(f"{arm:<32} {rate:>6} GOP/s")
    summary = {"bench": "products", "slots": slots, "gops": rates, "network_over_alone": shares}
    print(json.dumps(summary | {"versions": corpus.versions()}))


if __name__ == "__main__":
    main()
