"""A worker process of Beam's local runner: Beam's own, without its status lines on the terminal.

Log records of libraries are still sent to the process that started it, and it ends when that process is killed.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from types import FrameType

from transforms import garbage

# Signals to a process group reach this process first; its parent must know of the stop before Beam notices the end.
END_AFTER_S = 1.0
# Time between two looks at the process that started this one.
PARENT_EVERY_S = 0.5


def main() -> None:
    """Execute work of the runner that started this process until there is none left."""
    garbage.seldom()
    signal.signal(signal.SIGTERM, _end)
    signal.signal(signal.SIGINT, _end)
    threading.Thread(target=end_with, args=(os.getppid(),), daemon=True).start()
    # Beam gives the root logger a handler for the terminal unless there is one.
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.CRITICAL + 1)
    logging.getLogger().addHandler(terminal)
    import grpc
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    # Beam prints the traceback of a failed element and sends it to the runner, which shows the sentence only.
    setattr(sdk_worker, "print", lambda *_, **__: None)  # noqa: B010
    shown = threading.excepthook
    threading.excepthook = lambda error: None if isinstance(error.exc_value, grpc.RpcError) else shown(error)
    try:
        sdk_worker_main.main(sys.argv)
    except grpc.RpcError:
        # The process that started this one is gone, and whoever killed it knows.
        os._exit(1)


def _end(number: int, frame: FrameType | None) -> None:
    """End this process a moment after the signal, also while a forward pass runs."""
    threading.Timer(END_AFTER_S, os._exit, (128 + number,)).start()


def end_with(parent: int) -> None:
    """End this process once its parent is gone; Beam would notice that too, but only after the shard."""
    while os.getppid() == parent:
        time.sleep(PARENT_EVERY_S)
    os._exit(1)


if __name__ == "__main__":
    main()
