"""What is timed of an arm: its function in this process, or in one of its own, so that its imports are timed too.

    python -m tests.bench.alone tests.bench.arms:job '{"order": {...}, "more": {...}}'

Modules of arms therefore import what an arm needs inside its function.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tests.bench import arms, processor
from tests.bench.order import Order


def resolve(name: str) -> Callable[..., None]:
    """`module:function` -> the function."""
    module, _, function = name.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


def timed(arm: str, name: str, more: dict[str, Any], order: Order, process: bool, few: Path) -> Callable[[int], None]:
    """What is timed: an arm in this process or in its own; a later night finds what the first one has measured.

    Args:
        arm: its name; `job later ...` is a later night of `job ...`.
        name: `module:function`.
        more: further arguments of the function.
        order: what it is to do, the sink without the number of the repeat.
        process: whether it gets a process of its own; the job is then the command.
        few: a source of few rows. An arm in this process computes them now, so that what a process does once, such as
            imports, is not counted.
    """

    def call(repeat: int) -> None:
        now = replace(order, sink=order.sink.with_name(f"{order.sink.name}-{repeat}"))
        if arm.startswith("job later"):
            first = order.sink.name.replace("-later", "")
            arms.prepare_later_night(now.sink, order.sink.with_name(f"{first}-{repeat}"))
        if process:
            start("tests.bench.arms:command" if name.endswith("arms:job") else name, now, more)
        else:
            resolve(name)(now, **more)

    if not process:
        resolve(name)(replace(order, source=few, sink=order.sink.with_name(f"{order.sink.name}-few")), **more)
    return call


def start(name: str, order: Order, more: dict[str, Any]) -> None:
    """Run an arm in a new process and wait for its end.

    Args:
        name: `module:function`.
        order: what the arm is to do.
        more: further arguments of the function.

    Raises:
        RuntimeError: the process failed; the message ends with its last lines.
    """
    content = json.dumps({"order": asdict(order), "more": more}, default=str)
    done = subprocess.run([sys.executable, "-m", "tests.bench.alone", name, content], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{name} ended with {done.returncode}: {done.stderr[-2000:]}")


def _obey() -> None:
    """Run the arm that the command line names. `tests.bench` takes modules with a `main` for benchmarks."""
    name, content = sys.argv[1:]
    arguments = json.loads(content)
    processor.follow_emulation()
    resolve(name)(Order.from_json(arguments["order"]), **arguments["more"])


if __name__ == "__main__":
    _obey()
