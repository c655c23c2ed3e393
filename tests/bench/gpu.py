"""How well a whole classify job uses a CUDA GPU: FLOPs of the model against the GPU's peak, and its busy share.

    python -m tests.bench.gpu [--rows 50000] [--repeats 5] [--quick]

BERT-base's shape with random weights, `dtype: auto`, file to file. Model FLOPs are those of the matrix products over
real tokens, padding not counted (Chowdhery et al. 2022, appendix B, forward pass only). The peak is measured: the best
of ten products of 8,192 x 8,192 matrices in the same dtype. The busy share is the time
in kernels and copies, from CUPTI through torch.profiler in a run of its own, of the job's seconds. The last line is
JSON; without a GPU it says so.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import torch
from transformers import BertConfig, BertForSequenceClassification

from jobs import run, spec
from jobs.report import Report
from tests import tiny
from tests.bench import corpus
from transforms.device import DTYPES, choose_dtype


def bert_base(folder: Path) -> BertConfig:
    """A classifier of BERT-base's shape with a 512-token window."""
    torch.manual_seed(0)
    config = BertConfig(vocab_size=30522, num_labels=2)
    BertForSequenceClassification(config).save_pretrained(folder)
    tiny.wordpiece(max_length=512, vocabulary=20_000).save_pretrained(folder)
    return config


def flops(config: BertConfig, tokens: int, mean_length: float) -> float:
    """FLOPs of the forward pass over that many tokens: two for each weight, and attention's two products."""
    width, layers = config.hidden_size, config.num_hidden_layers
    weights = layers * (4 * width**2 + 2 * width * config.intermediate_size)
    return tokens * (2 * weights + layers * 4 * width * mean_length)


def peak_flops(dtype: torch.dtype) -> float:
    """FLOPs a second of a large matrix product."""
    side = 8192
    a, b = (torch.randn(side, side, device="cuda", dtype=dtype) for _ in range(2))
    best = float("inf")
    for _ in range(10):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        a @ b
        end.record()
        end.synchronize()
        best = min(best, start.elapsed_time(end) / 1000)
    return 2 * side**3 / best


def job(model: Path, source: Path, sink: Path) -> Report:
    """The job, through the same call as the command."""
    task = {"task": "classify", "column": "text", "model": str(model), "into": "label", "device": "cuda"}
    content = {"name": "gpu", "source": {"path": str(source)}, "tasks": [task], "sink": {"path": str(sink)}}
    return run.run(spec.parse(content))


def main() -> None:
    """Run the job and print what the GPU did."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="5,000 rows, once")
    arguments = parser.parse_args()
    rows, repeats = (5000, 1) if arguments.quick else (arguments.rows, arguments.repeats)
    if not torch.cuda.is_available():
        print(json.dumps({"bench": "gpu", "skipped": "torch sees no CUDA GPU here"}))
        return
    dtype = choose_dtype("auto", "cuda")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        config, source = bert_base(root / "model"), corpus.write(root / "source", rows)
        seconds = []
        for repeat in range(repeats + 1):
            started = time.perf_counter()
            report = job(root / "model", source, root / f"out-{repeat}")
            seconds.append(time.perf_counter() - started)
            print(f"{repeat} {report.tokens / seconds[-1]:,.0f} tokens/s", flush=True)
        activities = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            started = time.perf_counter()
            job(root / "model", source, root / "out-profiled")
            profiled = time.perf_counter() - started
        busy = sum(event.self_device_time_total for event in profile.key_averages()) / 1e6
    # The first run pays for the CUDA context and is not counted.
    median = statistics.median(seconds[1:])
    work, peak = flops(config, report.tokens, report.tokens / rows), peak_flops(DTYPES[dtype])
    summary = {
        "bench": "gpu",
        "gpu": torch.cuda.get_device_name(),
        "dtype": dtype,
        "rows": rows,
        "tokens_per_s": round(report.tokens / median),
        "spread": [round(report.tokens / max(seconds[1:])), round(report.tokens / min(seconds[1:]))],
        "model_tflops": round(work / median / 1e12, 1),
        "peak_tflops": round(peak / 1e12, 1),
        "model_flops_utilisation": round(work / median / peak, 3),
        "busy_share": round(busy / profiled, 3),
        "versions": corpus.versions(),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
