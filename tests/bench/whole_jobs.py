"""What the benchmarks of whole jobs share: options, the arms of the job, and what the last line says of the run."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers.utils import logging

from tests.bench import alone, corpus, processor, turns
from tests.bench.order import Arm, Order
from transforms.device import choose_device, choose_dtype


def options(
    doc: str | None, rows: int, repeats: int, quick_rows: int, rows_help: str | None = None
) -> argparse.ArgumentParser:
    """A parser of the options that all of them have; the arguments are its description and the defaults."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=rows, help=rows_help)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--quick", action="store_const", const=quick_rows, help=f"{quick_rows} rows, once")
    parser.add_argument("--process", action="store_true", help="each arm in a process of its own, imports included")
    parser.add_argument("--cpu", action="store_true", help="CPU time instead of seconds on the clock")
    return parser


def begin(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The options of the command line, and with them `clock`; the libraries are told to be silent."""
    settings = parser.parse_args()
    processor.follow_emulation()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if settings.quick:
        settings.rows, settings.repeats = settings.quick, 1
    settings.clock = turns.cpu_seconds if settings.cpu else time.perf_counter
    return settings


def dtypes() -> list[str]:
    """The dtypes that are compared here: float32, the half precision that is fast, and int8 on a CPU."""
    half = choose_dtype("auto", "auto")
    found = ["float32", *([half] if half != "float32" else [])]
    return [*found, "int8"] if choose_device("auto").type == "cpu" else found


def jobs() -> dict[str, Arm]:
    """The job in each dtype, and in int8 a later night as well."""
    names = [f"job {dtype}" for dtype in dtypes()]
    names += ["job later int8"] if "job int8" in names else []
    return {name: Arm("tests.bench.arms:job", name.split()[-1]) for name in names}


def calls(
    chosen: Mapping[str, Arm], orders: Mapping[str, Order], best: Mapping[str, int], process: bool, few: Path
) -> dict[str, Callable[[int], None]]:
    """What is timed of each arm.

    Args:
        chosen: the arms by name.
        orders: what each is to do.
        best: of each arm with a `tuned` argument, its value.
        process: whether each arm gets a process of its own.
        few: a source of few rows, see `alone.timed`.
    """
    more = {arm: how.more | ({how.tuned: best[arm]} if how.tuned else {}) for arm, how in chosen.items()}
    return {arm: alone.timed(arm, how.call, more[arm], orders[arm], process, few) for arm, how in chosen.items()}


def described(settings: argparse.Namespace) -> dict[str, Any]:
    """For the last line: how often and by which clock, and on which processor with which libraries."""
    return {
        "rows": settings.rows,
        "repeats": settings.repeats,
        "clock": "CPU" if settings.cpu else "wall",
        "process": settings.process,
        "processor": processor.describe(),
        "versions": corpus.versions(),
    }
