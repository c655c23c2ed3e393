"""The arms of the encoder benchmark: whole jobs, Parquet to Parquet, model loaded anew each time.

Every arm takes an `Order`, and imports what it needs inside its function. The loops of the peers are as their guides
write them: 32 rows at a time in arrival order, padded to the longest. Their `ner` gives the best label of each token
and no spans, which is less work than the job's. The length-sorted loops have no guide: they get the token budget that
is best for them (`tests.bench.tuning`).
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.order import Order

if TYPE_CHECKING:
    import torch

MAX_LENGTH = 512
ROWS = 32
ARCHITECTURES = {"classify": "AutoModelForSequenceClassification", "ner": "AutoModelForTokenClassification"}
PIPELINES = {"classify": "text-classification", "ner": "token-classification"}
OPTIONS: dict[str, dict[str, Any]] = {
    "classify": {"into": "label", "long_text": "truncate"},
    "ner": {"into": "label", "long_text": "truncate"},
    "embed": {"into": "vector"},
    "zero_shot": {"into": "topic"},
}


def content(order: Order, engine: str = "auto") -> dict[str, Any]:
    """The job file of an order."""
    task = {"task": order.task, "column": "text", "model": str(order.model), "dtype": order.dtype, "engine": engine}
    if order.labels:
        task["labels"] = list(order.labels)
    return {
        "name": "bench",
        "source": {"path": str(order.source)},
        # Random weights put every label near its rivals: how fast a rounded model is does not depend on that.
        "tasks": [task | OPTIONS[order.task] | {"min_agreement": 0.0}],
        "sink": {"path": str(order.sink)},
    }


def job(order: Order, engine: str = "auto") -> None:
    """The job, through the same call as the command."""
    from jobs import run, spec

    run.run(spec.parse(content(order, engine)))


def command(order: Order) -> None:
    """The command `nightscribe run` on a job file; for a process of its own."""
    import yaml

    from jobs import cli

    file = order.sink.with_suffix(".yaml")
    file.write_text(yaml.safe_dump(content(order)))
    if code := cli.main(["run", str(file)]):
        raise RuntimeError(f"nightscribe run ended with {code}")


def prepare_later_night(sink: Path, first: Path) -> None:
    """Copy the agreement of int8, which an earlier night has left in its sink, into a new sink."""
    kept = Path("_nightscribe/agreement")
    shutil.copytree(first / kept, sink / kept)


def pipe(order: Order, batch_size: int) -> None:
    """transformers.pipeline."""
    from transformers import pipeline

    from transforms.device import DTYPES, choose_device

    more: dict[str, Any] = {"truncation": True, "max_length": MAX_LENGTH} if order.task == "classify" else {}
    call = pipeline(
        PIPELINES[order.task], model=str(order.model), dtype=DTYPES[order.dtype], device=choose_device("auto")
    )
    table = pq.read_table(order.source)
    texts = table["text"].to_pylist()
    if order.task == "ner":
        # The pipeline has no truncation option for tokens; its tokenizer's own limit does it.
        call.tokenizer.model_max_length = MAX_LENGTH
    results = call(texts, batch_size=batch_size, **more)
    names = [found["label"] if order.task == "classify" else str(len(found)) for found in results]
    write(table, names, order.sink)


class Loop:
    """Tokenizer and network by hand: texts of one batch -> labels."""

    def __init__(self, order: Order):
        import torch
        import transformers

        from transforms.device import DTYPES, choose_device

        self.task = order.task
        self.device = choose_device("auto")
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(order.model)
        rounded = order.dtype == "int8"
        architecture = getattr(transformers, ARCHITECTURES[order.task])
        network = architecture.from_pretrained(order.model, dtype=torch.float32 if rounded else DTYPES[order.dtype])
        network = network.to(self.device).eval()
        self.names = network.config.id2label
        self.network = dynamic_int8(network) if rounded else network

    def tokenise(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text, cut off at the window."""
        encoded = self.tokenizer(texts, truncation=True, max_length=MAX_LENGTH, return_token_type_ids=False)
        return encoded["input_ids"]

    def __call__(self, texts: list[str]) -> list[str]:
        """Labels of the texts of one batch."""
        return self.labels(self.tokenise(texts))

    def labels(self, ids: list[list[int]]) -> list[str]:
        """Labels of the sequences of one batch."""
        inputs = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt")
        return self.read(self.compute(inputs), inputs["attention_mask"].numpy())

    def compute(self, inputs: Any) -> np.ndarray:
        """Logits of one padded batch."""
        import torch

        with torch.inference_mode():
            return self.network(**inputs.to(self.device)).logits.float().cpu().numpy()

    def read(self, logits: np.ndarray, mask: np.ndarray) -> list[str]:
        """Best label of each text, or of each of its tokens, joined."""
        best = logits.argmax(-1)
        if self.task == "classify":
            return [self.names[i] for i in best]
        return [" ".join(self.names[i] for i in row[keep > 0]) for row, keep in zip(best, mask, strict=True)]


class OnnxLoop(Loop):
    """The same with ONNX Runtime; the exported file was made before."""

    def __init__(self, order: Order):
        import onnxruntime
        from transformers import AutoConfig, AutoTokenizer

        self.task = order.task
        self.tokenizer = AutoTokenizer.from_pretrained(order.model)
        self.names = AutoConfig.from_pretrained(order.model).id2label
        file = order.model / ("int8.onnx" if order.dtype == "int8" else "network.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def compute(self, inputs: Any) -> np.ndarray:
        """Logits of one padded batch."""
        feed = {node.name: inputs[node.name].numpy() for node in self.session.get_inputs()}
        return self.session.run(["logits"], feed)[0]


KINDS: dict[str, type[Loop]] = {"torch": Loop, "onnx": OnnxLoop}


def dynamic_int8(network: torch.nn.Module) -> torch.nn.Module:
    """torch's own dynamic quantisation, with the engine that was the faster one in the measurements of the README."""
    import torch

    if "onednn" in torch.backends.quantized.supported_engines:
        torch.backends.quantized.engine = "onednn"
    return torch.ao.quantization.quantize_dynamic(network, {torch.nn.Linear}, dtype=torch.qint8)


def loop(order: Order, kind: str = "torch", budget: int | None = None) -> None:
    """A loop over length-sorted batches of at most `budget` slots; without a budget over 32 rows at a time."""
    worker = KINDS[kind](order)
    table = pq.read_table(order.source)
    ids = worker.tokenise(table["text"].to_pylist())
    write(table, label(worker, ids, budget), order.sink)


def label(worker: Loop, ids: list[list[int]], budget: int | None) -> list[str]:
    """Labels of sequences in their order."""
    labels = [""] * len(ids)
    for batch in arrival_batches(len(ids)) if budget is None else sorted_batches(ids, budget):
        for i, name in zip(batch, worker.labels([ids[i] for i in batch]), strict=True):
            labels[i] = name
    return labels


def sorted_batches(ids: list[list[int]], budget: int) -> list[list[int]]:
    """Longest first, as many as the budget has slots for."""
    waiting, batches = sorted(range(len(ids)), key=lambda i: -len(ids[i])), []
    while waiting:
        rows = max(1, budget // len(ids[waiting[0]]))
        batches.append(waiting[:rows])
        waiting = waiting[rows:]
    return batches


def arrival_batches(rows: int) -> list[list[int]]:
    """32 rows at a time as they come."""
    return [list(range(i, min(i + ROWS, rows))) for i in range(0, rows, ROWS)]


def write(table: pa.Table, labels: list[str], sink: Path) -> None:
    """The rows with their labels as one Parquet file."""
    pq.write_table(table.append_column("label", pa.array(labels, pa.string())), sink, compression="zstd")


def export_onnx(task: str, model: Path) -> None:
    """Export a model folder to ONNX, in float32 and rounded to int8 by ONNX Runtime's dynamic quantisation."""
    import torch
    import transformers
    from onnxruntime.quantization import QuantType, quantize_dynamic

    network = getattr(transformers, ARCHITECTURES[task]).from_pretrained(model, dtype=torch.float32).eval()
    ids = torch.arange(33).reshape(3, 11)
    inputs = {"input_ids": ids, "attention_mask": (ids % 11 < torch.tensor([[11], [9], [4]])).long()}
    open_axes = {name: {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC} for name in inputs}
    file = model / "network.onnx"
    with torch.no_grad():
        program = torch.onnx.export(
            network, (), kwargs=inputs, dynamo=True, dynamic_shapes=open_axes, output_names=["logits"], verbose=False
        )
    program.save(file, external_data=False)
    quantize_dynamic(file, model / "int8.onnx", weight_type=QuantType.QInt8, per_channel=True)
