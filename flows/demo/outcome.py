"""What a flow of the demo returns if it ended well."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect.exceptions import CancelledRun

from transforms.errors import RunError, Stopped


def outcome(flow: Callable[[str], Any], file: Path) -> dict[str, Any]:
    """Run a flow with a job file or a training file.

    Args:
        flow: `enrich` or `retrain`.
        file: its file.

    Raises:
        Stopped: somebody has stopped it, such as by Ctrl-C.
        RunError: it ended otherwise; its own message is on the terminal.
    """
    try:
        found = flow(str(file))
    except CancelledRun as error:
        raise Stopped(str(error)) from error
    if not isinstance(found, dict):
        raise RunError(f"the flow with {file} failed; its message is above")
    return found
