"""When Python looks for garbage: seldom, not among what is imported, and not when the process ends.

torch and transformers create objects by the million while they are imported. None of them is garbage, and each look at
them takes up to a second: with Python's defaults a quarter of the imports, and one more at the end of the process, when
Python frees what the operating system frees anyway (tests/bench/README.md, "Start-up").
"""

from __future__ import annotations

import atexit
import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# With Python's default of 700 the collector takes a tenth of a run without a model.
THRESHOLD = (50_000, 20, 100)

# DuckDB, which lists all of its own classes as leaks (nanobind) if they are still there when the process has ended.
COMPLAINS = "_duckdb"


def seldom() -> None:
    """Look for garbage seldom in this process, and not at its end."""
    gc.set_threshold(*THRESHOLD)
    # Once, however often a command is called in this process. Files are closed and threads are joined before.
    atexit.unregister(_end)
    atexit.register(_end)


def _end() -> None:
    """Leave out the last look, unless a library would complain about what is left."""
    if COMPLAINS in sys.modules:
        gc.unfreeze()
    else:
        gc.freeze()


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Do not look for garbage while the block imports libraries, nor ever among what is there at its end.

    Args:
        name: a module that the block imports. If that was imported before, garbage is looked for as ever.
    """
    if name in sys.modules:
        yield
        return
    looks = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if looks:
            gc.enable()
