"""The progress of a training on a terminal, or as lines in a log."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

from tqdm import tqdm

from jobs.execute.bar import LINE_EVERY_S
from jobs.training.supervise import Watch

# What is shown of a line.
SHOWN = ("loss", "eval_loss", "reward", "kl")


@contextlib.contextmanager
def shown(name: str, quiet: bool = False) -> Iterator[Watch]:
    """Give a function that shows the progress on stderr: a bar on a terminal, a line every 30 s in a log.

    Args:
        name: name of the training.
        quiet: show nothing.
    """
    if quiet:
        yield lambda line: None
    elif sys.stderr.isatty():
        with tqdm(unit=" steps", desc=name, delay=0.5) as bar:

            def redraw(line: dict[str, Any]) -> None:
                bar.total = line["steps"]
                if "memory" in line:
                    bar.write(f"{name}: {line['memory']}", file=sys.stderr)
                losses: dict[str, object] = {k: f"{line[k]:.4g}" for k in SHOWN if k in line}
                bar.set_description(_described(name, line))
                if losses:
                    bar.set_postfix(losses, refresh=False)
                bar.update(line["step"] - bar.n)

            yield redraw
    else:
        yield lines(name, lambda text: print(text, file=sys.stderr, flush=True))


def lines(name: str, say: Callable[[str], None], at_once: bool = False) -> Watch:
    """Tell the step and the losses every 30 s, and at once how many rows fit into memory if those are fewer.

    Args:
        name: name of the training.
        say: takes a line.
        at_once: tell the first step too.
    """
    told_at = -math.inf if at_once else time.monotonic()

    def tell(line: dict[str, Any]) -> None:
        nonlocal told_at
        if "memory" in line:
            say(f"{name}: {line['memory']}")
        if time.monotonic() - told_at >= LINE_EVERY_S:
            told_at = time.monotonic()
            loss = "".join(f", {key} {line[key]:.4g}" for key in SHOWN if key in line)
            say(f"{_described(name, line)}: step {line['step']:,} of {line['steps']:,}{loss}")

    return tell


def _described(name: str, line: dict[str, Any]) -> str:
    return f"{name}, {line['stage']}" if "stage" in line else name
