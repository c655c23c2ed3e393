"""The arms of the encoder benchmark: whole jobs, Parquet to Parquet, model loaded anew each time.

Every arm takes an `Order`. The loops of the peers are as their guides write them: 32 rows at a time in arrival order,
padded to the longest. Their `ner` gives the best label of each token and no spans, which is less work than the job's.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    pipeline,
)

from jobs import run, spec
from transforms.batches import MAX_TOKENS
from transforms.device import DTYPES, choose_device

MAX_LENGTH = 512
ROWS = 32
ARCHITECTURES = {"classify": AutoModelForSequenceClassification, "ner": AutoModelForTokenClassification}
PIPELINES = {"classify": "text-classification", "ner": "token-classification"}


@dataclass(frozen=True)
class Order:
    """What an arm is to do.

    Attributes:
        task: classify or ner.
        model: folder.
        source: folder of Parquet files with a `text`.
        sink: a path that is not there yet.
        dtype: float32, bfloat16, float16 or int8.
    """

    task: str
    model: Path
    source: Path
    sink: Path
    dtype: str


def job(order: Order, engine: str = "auto") -> None:
    """The job, through the same call as the command."""
    task = {"task": order.task, "column": "text", "model": str(order.model), "into": "label", "long_text": "truncate"}
    content = {
        "name": "encoder",
        "source": {"path": str(order.source)},
        # Random weights put every label near its rivals: how fast a rounded model is does not depend on that.
        "tasks": [task | {"dtype": order.dtype, "engine": engine, "min_agreement": 0.0}],
        "sink": {"path": str(order.sink)},
    }
    run.run(spec.parse(content))


def later_night(order: Order) -> None:
    """The job on a night that finds its int8 measured: what `job` has left in its own sink of this repeat is copied."""
    kept = Path("_nightscribe/agreement")
    shutil.copytree(order.sink.with_name(order.sink.name.replace("-later", "")) / kept, order.sink / kept)
    job(order)


def pipe(order: Order, batch_size: int) -> None:
    """transformers.pipeline."""
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
        self.task = order.task
        self.device = choose_device("auto")
        self.tokenizer = AutoTokenizer.from_pretrained(order.model)
        rounded = order.dtype == "int8"
        dtype = torch.float32 if rounded else DTYPES[order.dtype]
        network = ARCHITECTURES[order.task].from_pretrained(order.model, dtype=dtype).to(self.device).eval()
        self.names = network.config.id2label
        if rounded:
            network = torch.ao.quantization.quantize_dynamic(network, {torch.nn.Linear}, dtype=torch.qint8)
        self.network = network

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

        self.task = order.task
        self.tokenizer = AutoTokenizer.from_pretrained(order.model)
        from transformers import AutoConfig

        self.names = AutoConfig.from_pretrained(order.model).id2label
        file = order.model / ("int8.onnx" if order.dtype == "int8" else "network.onnx")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self.session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])

    def compute(self, inputs: Any) -> np.ndarray:
        """Logits of one padded batch."""
        feed = {node.name: inputs[node.name].numpy() for node in self.session.get_inputs()}
        return self.session.run(["logits"], feed)[0]


def loop(order: Order, batches: str, kind: type[Loop] = Loop) -> None:
    """A loop over the job's batches (`budget`: length-sorted, the same token budget) or over 32 rows at a time."""
    worker = kind(order)
    table = pq.read_table(order.source)
    ids = worker.tokenise(table["text"].to_pylist())
    labels = [""] * len(ids)
    for batch in sorted_batches(ids, order.dtype) if batches == "budget" else arrival_batches(len(ids)):
        for i, label in zip(batch, worker.labels([ids[i] for i in batch]), strict=True):
            labels[i] = label
    write(table, labels, order.sink)


def sorted_batches(ids: list[list[int]], dtype: str) -> list[list[int]]:
    """Longest first, as many as the budget has slots for."""
    waiting, batches = sorted(range(len(ids)), key=lambda i: -len(ids[i])), []
    budget = MAX_TOKENS["int8" if dtype == "int8" else choose_device("auto").type]
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
    from onnxruntime.quantization import QuantType, quantize_dynamic

    network = ARCHITECTURES[task].from_pretrained(model, dtype=torch.float32).eval()
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
