"""The progress of a training on a terminal, or as lines in a log."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
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

    def described(line: dict[str, Any]) -> str:
        return f"{name}, {line['stage']}" if "stage" in line else name

    if quiet:
        yield lambda line: None
    elif sys.stderr.isatty():
        with tqdm(unit=" steps", desc=name, delay=0.5) as bar:

            def redraw(line: dict[str, Any]) -> None:
                bar.total = line["steps"]
                if "memory" in line:
                    bar.write(f"{name}: {line['memory']}", file=sys.stderr)
                losses: dict[str, object] = {k: f"{line[k]:.4g}" for k in SHOWN if k in line}
                bar.set_description(described(line))
                if losses:
                    bar.set_postfix(losses, refresh=False)
                bar.update(line["step"] - bar.n)

            yield redraw
    else:
        shown_at = time.monotonic()

        def print_line(line: dict[str, Any]) -> None:
            nonlocal shown_at
            if "memory" in line:
                print(f"{name}: {line['memory']}", file=sys.stderr, flush=True)
            if time.monotonic() - shown_at >= LINE_EVERY_S:
                shown_at = time.monotonic()
                loss = "".join(f", {key} {line[key]:.4g}" for key in SHOWN if key in line)
                print(
                    f"{described(line)}: step {line['step']:,} of {line['steps']:,}{loss}", file=sys.stderr, flush=True
                )

        yield print_line
