"""A task of a known cost: it waits some microseconds for each row, as a model would compute them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from transforms.contract import Annotation
from transforms.options import column_field

ARCHITECTURE = None
VERSION = 1


@dataclass(frozen=True)
class Options:
    """The column, and the cost of a row."""

    column: str = column_field("text column")
    us: int = 200


def check(options, config):
    """Nothing to check."""


def output_type(options, config):
    """A struct of the text's length and its first characters."""
    return pa.struct({"length": pa.int32(), "start": pa.string()})


def load(options, model, max_tokens=None):
    """Waits, then gives the length of each text and how it begins."""

    def compute(batch):
        time.sleep(options.us * len(batch) / 1e6)
        texts = batch[options.column]
        columns = [pc.utf8_length(texts), pc.utf8_slice_codeunits(texts, 0, 8)]
        values = pa.StructArray.from_arrays(columns, fields=list(output_type(options, None)))
        return Annotation(values, tokens=len(batch))

    return compute
