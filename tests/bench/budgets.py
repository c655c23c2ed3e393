"""Real tokens a second of a loaded classifier at each budget of token positions, and what the calibration chooses.

    OMP_NUM_THREADS=1 python -m tests.bench.budgets [--rows 400] [--repeats 3] [--dtypes float32 int8]

The model has DistilBERT-base's shape and random weights, the corpus is heavy-tailed. Every arm is the same loaded task
over the same rows, tokenising included; only its budget differs. The arms take turns, and the best of the repeats
counts, since other programs only ever slow one down. With one thread what counts is CPU time, with more the clock.
After them the calibration of a job chooses a budget on the first 256 rows, with as many seconds as a long job allows.
The last line is JSON: for each dtype the speeds, the choice, its share of the best speed, the seconds it took, and the
largest difference between scores of the smallest and the largest budget.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from jobs.execute import cores
from jobs.models.calibration import MOST_S, ROWS
from jobs.plan.planning import CHUNK_ROWS
from tests.bench import corpus
from transforms import calibration
from transforms.calibration.trial import Trial
from transforms.device import choose_device, has_bfloat16
from transforms.model import load
from transforms.reference import ModelRef
from transforms.tasks import classify


def computed(annotator: Any, batch: pa.RecordBatch, budget: int) -> tuple[float, int, np.ndarray]:
    """Seconds, tokens and scores of the rows with a budget."""
    annotator.max_tokens = budget
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    found = annotator(batch)
    took = clock() - begun
    return took, found.tokens, np.asarray(found.values.flatten().field("score")).reshape(len(batch), -1)


def measured(folder: Path, dtype: str, batch: pa.RecordBatch, repeats: int, budgets: tuple[int, ...]) -> dict[str, Any]:
    """The figures of one dtype."""
    model = load(ModelRef(str(folder), dtype=dtype), classify.ARCHITECTURE)
    # All labels in the order of their scores, so that those of two arms can be compared.
    annotator = classify.load(classify.Options("text", long_text="truncate", top_k="all"), model)
    computed(annotator, batch.slice(0, 16), budgets[0])
    speeds: dict[int, float] = {}
    scores: dict[int, np.ndarray] = {}
    for _ in range(repeats):
        for budget in budgets:
            seconds, tokens, scores[budget] = computed(annotator, batch, budget)
            speeds[budget] = max(speeds.get(budget, 0.0), tokens / seconds)
    trial = Trial.of(annotator, batch.slice(0, ROWS))
    assert trial is not None
    chunk_rows = CHUNK_ROWS[trial.kind]
    found = calibration.measure(trial, model.max_tokens, chunk_rows, lambda rows: MOST_S)
    best = max(speeds.values())
    chosen = model.max_tokens if found is None else found.budget
    return {
        "tokens_per_s": {str(budget): round(speed) for budget, speed in speeds.items()},
        "default": model.max_tokens,
        "chosen": chosen,
        "chosen_of_best": round(speeds[chosen] / best, 3) if chosen in speeds else None,
        "chosen_of_default": round(speeds[chosen] / speeds[model.max_tokens], 3) if chosen in speeds else None,
        "calibration_s": None if found is None else round(found.seconds, 1),
        "calibration_tokens_per_s": {} if found is None else {str(k): round(v) for k, v in found.speeds.items()},
        "score_difference": float(np.abs(scores[budgets[0]] - scores[budgets[-1]]).max()),
    }


def main() -> None:
    """Measure each dtype, and print what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtypes", nargs="+", help="by default float32, int8, and bfloat16 where the CPU has it")
    parser.add_argument("--quick", action="store_true", help="24 rows, one repeat, int8")
    arguments = parser.parse_args()
    rows, repeats = (24, 1) if arguments.quick else (arguments.rows, arguments.repeats)
    kind = choose_device("auto").type
    usual = ["float32", "int8", *(["bfloat16"] if has_bfloat16() else [])] if kind == "cpu" else ["float32", "bfloat16"]
    dtypes = arguments.dtypes or (usual[1:2] if arguments.quick else usual)
    budgets = calibration.BUDGETS[kind][:3] if arguments.quick else calibration.BUDGETS[kind]
    batch = pa.record_batch({"text": corpus.texts(rows)})
    found: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = corpus.distilbert(Path(name) / "model")
        for dtype in dtypes:
            found[dtype] = measured(folder, dtype, batch, repeats, budgets)
            print(f"{dtype:<10}{found[dtype]}", flush=True)
    instructions = {key: value for key, value in os.environ.items() if key.startswith(("ONEDNN_MAX", "ATEN_CPU"))}
    about = corpus.versions() | {"cores": str(cores.physical()), "amx": str(torch.cpu._is_amx_tile_supported())}
    print(json.dumps({"bench": "budgets", **found, "versions": about | instructions}))


if __name__ == "__main__":
    main()
