"""A worker process of Beam's local runner: Beam's own, without its status lines on the terminal.

Log records of libraries are still sent to the process that started it.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Execute work of the runner that started this process until there is none left."""
    # Beam gives the root logger a handler for the terminal unless there is one.
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(terminal)
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    # Beam prints the traceback of a failed element and sends it to the runner, which shows the sentence only.
    setattr(sdk_worker, "print", lambda *_, **__: None)  # noqa: B010
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
