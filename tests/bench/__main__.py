"""Every benchmark there is, one after the other, and one table of what each said last.

    python -m tests.bench [--quick] [--only NAME ...] [--gpu] [--save FILE]

A benchmark is a module here with a `main` whose last line on stdout is JSON with a key `bench`. Each runs in a process
of its own, so that none warms another. Nothing is written unless asked; one that fails is named and the rest go on.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

# What runs on a CUDA GPU, and how many rows make it work there; a GPU computes the default numbers in no time.
GPU = {
    "gpu": [],
    "budgets": [],
    "encoder": ["--rows", "20000", "--repeats", "3"],
    "embed": ["--rows", "50000", "--repeats", "3"],
    "zero_shot": ["--rows", "5000", "--repeats", "3"],
    "cascade": [],
}


def names() -> list[str]:
    """The modules that are benchmarks."""
    return sorted(
        file.stem for file in HERE.glob("*.py") if file.stem != "__main__" and "\ndef main(" in file.read_text()
    )


def run(name: str, quick: bool, more: list[str]) -> dict[str, Any]:
    """Run one benchmark, its lines passed on as they come; its last line, or why there is none."""
    command = [sys.executable, "-u", "-m", f"tests.bench.{name}", *more]
    if quick and "--quick" in (HERE / f"{name}.py").read_text():
        command.append("--quick")
    print(f"\n== {name}", flush=True)
    last = ""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            print(line, end="", flush=True)
            last = line if line.strip() else last
    if process.returncode:
        return {"bench": name, "failed": f"exit {process.returncode}"}
    try:
        return json.loads(last)
    except ValueError:
        return {"bench": name, "failed": f"the last line is not JSON: {last[:80]!r}"}


def no_gpu() -> str | None:
    """Why nothing can run on a GPU here, or None."""
    import torch

    return None if torch.cuda.is_available() else "torch sees no CUDA GPU here"


def table(results: list[dict[str, Any]]) -> str:
    """The numbers of every last line, nested keys joined by a dot, lists and versions left out."""
    lines = []
    for result in results:
        for key, value in _flat({k: v for k, v in result.items() if k not in ("bench", "versions")}):
            lines.append(f"{result['bench']:<12} {key:<58} {value}")
    return "\n".join(lines)


def _flat(data: dict[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    flat: list[tuple[str, Any]] = []
    for key, value in data.items():
        if isinstance(value, dict):
            flat += _flat(value, f"{prefix}{key}.")
        elif not isinstance(value, list):
            flat.append((prefix + key, value))
    return flat


def main() -> int:
    """Run them and print the table; 1 if any failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="small and once, to see that everything runs")
    parser.add_argument("--only", nargs="+", choices=names(), metavar="NAME", help=f"some of {', '.join(names())}")
    parser.add_argument("--gpu", action="store_true", help=f"only on a CUDA GPU, and only {', '.join(GPU)}")
    parser.add_argument("--save", type=Path, help="file for the last lines, one JSON array")
    arguments = parser.parse_args()
    started = time.monotonic()
    chosen = [name for name in GPU if name in names()] if arguments.gpu else names()
    chosen = [name for name in chosen if name in (arguments.only or chosen)]
    if arguments.gpu and (reason := no_gpu()):
        results = [{"bench": name, "skipped": reason} for name in chosen]
    else:
        results = [run(name, arguments.quick, GPU[name] if arguments.gpu else []) for name in chosen]
    print(f"\n== all, {time.monotonic() - started:.0f} s\n{table(results)}")
    if arguments.save:
        arguments.save.write_text(json.dumps(results, indent=1))
    print(json.dumps({result["bench"]: result for result in results}))
    return int(any("failed" in result for result in results))


if __name__ == "__main__":
    sys.exit(main())
