"""A task whose cost is waiting, so that two cores can be shared by many workers: `milliseconds` for each row.

The environment variable TESTS_WAIT_TIMES makes a worker so many times slower.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from transforms.contract import Annotation
from transforms.options import column_field

ARCHITECTURE, VERSION = None, 1


@dataclass(frozen=True)
class Options:
    """The column to read, and the time that a row takes."""

    column: str = column_field("text column")
    milliseconds: float = 1.0


def check(options: Options, config: Any) -> None:
    """There is no model."""


def output_type(options: Options, config: Any) -> pa.DataType:
    """The length of the text."""
    return pa.int64()


def load(options: Options, model: Any, max_tokens: int | None = None) -> Any:
    """The function that waits."""

    def annotate(batch: pa.RecordBatch) -> Annotation:
        time.sleep(options.milliseconds * len(batch) / 1000 * float(os.environ.get("TESTS_WAIT_TIMES", "1")))
        lengths = pc.utf8_length(batch[options.column]).cast(pa.int64())
        return Annotation(lengths, tokens=len(batch), padded_tokens=len(batch))

    return annotate
