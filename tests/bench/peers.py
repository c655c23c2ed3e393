"""The encoder benchmark's arms on other engines for data: Beam's RunInference, Ray Data, datasets.map."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.arms import ROWS, Loop
from tests.bench.order import Order


def datasets_map(order: Order) -> None:
    """datasets.map, batched, in arrival order."""
    import datasets

    datasets.disable_progress_bars()
    worker = Loop(order)
    rows = datasets.Dataset(pq.read_table(order.source))
    done = rows.map(
        lambda batch: {"label": worker(batch["text"])}, batched=True, batch_size=ROWS, load_from_cache_file=False
    )
    done.to_parquet(order.sink)


def ray_data(order: Order) -> None:
    """Ray Data, one actor that has all the cores."""
    import ray

    cores = int(ray.cluster_resources()["CPU"])
    rows = ray.data.read_parquet(str(order.source))
    done = rows.map_batches(
        RayWorker, fn_constructor_args=(order,), batch_size=ROWS, compute=ray.data.ActorPoolStrategy(size=1),
        num_cpus=max(1, cores - 1), batch_format="pyarrow", runtime_env={"env_vars": {"OMP_NUM_THREADS": str(cores)}},
    )  # fmt: skip
    done.write_parquet(str(order.sink))


class RayWorker:
    """What an actor runs: a table of 32 rows in, the same with labels out."""

    def __init__(self, order: Order):
        self.worker = Loop(order)

    def __call__(self, table: pa.Table) -> pa.Table:
        """Label the rows."""
        labels = self.worker(table["text"].to_pylist())
        return table.append_column("label", pa.array(labels, pa.string()))


def ray_start() -> None:
    """Start Ray's processes, which no arm is charged for."""
    import ray

    # Its own log handler writes to stderr whatever ray.init is told.
    logging.getLogger("ray").setLevel(logging.ERROR)
    ray.init(include_dashboard=False, log_to_driver=False, logging_level="ERROR", configure_logging=False)
    ray.data.DataContext.get_current().enable_progress_bars = False


def ray_stop() -> None:
    """Stop them."""
    import ray

    ray.shutdown()


def beam_run_inference(order: Order) -> None:
    """Beam's RunInference on the local runner with a PyTorch handler of our own, 32 rows a batch.

    Its PytorchModelHandlerTensor stacks tensors of one length, and its Hugging Face handlers need an old transformers.
    """
    import apache_beam as beam
    from apache_beam.ml.inference.base import RunInference
    from apache_beam.runners.portability.fn_api_runner import FnApiRunner

    schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("label", pa.string())])
    with beam.Pipeline(FnApiRunner()) as pipeline:
        _ = (
            pipeline
            | beam.io.ReadFromParquet(f"{order.source}/*.parquet")
            | RunInference(_handler(order))
            | beam.io.WriteToParquet(str(order.sink / "rows"), schema, codec="zstd")
        )


def _handler(order: Order) -> Any:
    from apache_beam.ml.inference.base import ModelHandler

    class Handler(ModelHandler):
        """Rows as dictionaries in, the same with labels out."""

        def load_model(self) -> Loop:
            return Loop(order)

        def run_inference(
            self, batch: Sequence[dict[str, Any]], model: Loop, inference_args: dict[str, Any] | None = None
        ) -> Iterable[dict[str, Any]]:
            labels = model([row["text"] for row in batch])
            return [row | {"label": label} for row, label in zip(batch, labels, strict=True)]

        def batch_elements_kwargs(self) -> dict[str, int]:
            return {"min_batch_size": ROWS, "max_batch_size": ROWS}

    return Handler()
