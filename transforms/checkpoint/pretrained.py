"""Weights of a folder -> a network, and the parameters that the folder has no weights for."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# transformers warns with a table of these parameters, which are checked where they matter.
REPORT = "LOAD REPORT"


def load(loader: Any, folder: str | None, **more: Any) -> tuple[Any, set[str]]:
    """Load a network.

    Args:
        loader: a class of transformers with `from_pretrained`.
        folder: the model.
        more: further arguments of `from_pretrained`.

    Returns:
        The network, and the names of its parameters without weights, or with weights of another shape.
    """
    with without_report():
        network, report = loader.from_pretrained(folder, output_loading_info=True, **more)
    return network, {*report["missing_keys"], *(key for key, *_ in report.get("mismatched_keys", ()))}


@contextmanager
def without_report() -> Iterator[None]:
    """Keep the table of parameters without weights out of the log."""

    def keep(record: logging.LogRecord) -> bool:
        return REPORT not in record.getMessage()

    logger = logging.getLogger("transformers.modeling_utils")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
