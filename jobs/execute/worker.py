"""A worker process of Beam's local runner: Beam's own, without the lines about itself that it writes to the terminal.

What its libraries log still goes to the process that started it.
"""

from __future__ import annotations

import logging
import sys


def main() -> None:
    """Work for the runner that started this process until it says that there is no more."""
    # Beam gives the root logger a handler for the terminal unless there is one.
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.CRITICAL)
    logging.getLogger().addHandler(terminal)
    from apache_beam.runners.worker import sdk_worker, sdk_worker_main

    # Beam prints the traceback of a failed element and sends it to the runner, which says the one sentence in it.
    setattr(sdk_worker, "print", lambda *_, **__: None)  # noqa: B010
    sdk_worker_main.main(sys.argv)


if __name__ == "__main__":
    main()
