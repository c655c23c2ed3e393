"""Arms of the embed and zero_shot benchmarks: sentence-transformers' encode, transformers' zero-shot pipeline.

As in `tests.bench.arms` an arm imports what it needs inside its function. Their int8 is torch's own dynamic
quantisation of the same network, which takes their users one line.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.arms import dynamic_int8
from tests.bench.order import Order


def encoder(order: Order) -> Any:
    """A loaded SentenceTransformer."""
    from sentence_transformers import SentenceTransformer

    from transforms.device import DTYPES, choose_device

    dtype = DTYPES["float32" if order.dtype == "int8" else order.dtype]
    loaded = SentenceTransformer(str(order.model), device=str(choose_device("auto")), model_kwargs={"dtype": dtype})
    return dynamic_int8(loaded) if order.dtype == "int8" else loaded


def encode(order: Order, batch_size: int) -> None:
    """sentence-transformers."""
    table = pq.read_table(order.source)
    loaded = encoder(order)
    vectors = loaded.encode(table["text"].to_pylist(), batch_size=batch_size, show_progress_bar=False)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel().astype("float32")), vectors.shape[1])
    order.sink.mkdir()
    pq.write_table(table.append_column("vector", column), order.sink / "part.parquet", compression="zstd")


def classifier(order: Order) -> Any:
    """A loaded zero-shot-classification pipeline."""
    from transformers import pipeline

    from transforms.device import DTYPES, choose_device

    dtype = DTYPES["float32" if order.dtype == "int8" else order.dtype]
    call = pipeline("zero-shot-classification", model=str(order.model), dtype=dtype, device=choose_device("auto"))
    if order.dtype == "int8":
        call.model = dynamic_int8(call.model)
    return call


def zero_shot(order: Order, batch_size: int) -> None:
    """transformers.pipeline."""
    table = pq.read_table(order.source)
    found = classifier(order)(table["text"].to_pylist(), list(order.labels), batch_size=batch_size)
    rows = [
        [{"label": label, "score": score} for label, score in zip(row["labels"], row["scores"], strict=True)]
        for row in found
    ]
    pq.write_table(table.append_column("topic", pa.array(rows)), order.sink, compression="zstd")
