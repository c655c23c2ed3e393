"""One arm of a benchmark in a process of its own, so that its imports are timed and no arm uses those of another.

    python -m tests.bench.alone tests.bench.arms:job '{"order": {...}, "more": {...}}'

Modules of arms therefore import what an arm needs inside its function.
"""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from tests.bench import processor
from tests.bench.order import Order


def resolve(name: str) -> Callable[..., None]:
    """`module:function` -> the function."""
    module, _, function = name.partition(":")
    found: Callable[..., None] = getattr(importlib.import_module(module), function)
    return found


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


def main() -> None:
    """Run the arm that the command line names."""
    name, content = sys.argv[1:]
    arguments = json.loads(content)
    processor.follow_emulation()
    resolve(name)(Order.from_json(arguments["order"]), **arguments["more"])


if __name__ == "__main__":
    main()
