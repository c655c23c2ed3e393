"""A process that ends when the one that started it is gone, for example after `kill -9`."""

from __future__ import annotations

import os
import threading
import time

# Number of the process that started this one; it may be gone before this one looks.
PARENT = "NIGHTSCRIBE_TRAINING_PARENT"

POLL_S = 0.5


def end_with_parent() -> None:
    """Watch the parent from now on."""
    parent = int(os.environ.get(PARENT, os.getppid()))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(POLL_S)
    os._exit(1)
