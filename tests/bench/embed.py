"""Real tokens a second of a whole embed job, file to file, against sentence-transformers' encode.

    python -m tests.bench.embed [--rows 400] [--repeats 5]

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns in
one process, repeat by repeat; medians are of the repeats; the last line is JSON. The model has MiniLM-L6's shape (6
layers, 384 wide, a 256-token window) and random weights, in float32; mean pooling and normalisation as its folder says.

    job           nightscribe
    encode 32     SentenceTransformer.encode as most use it
    encode 8      the same with the smaller batches that suit a CPU better; 128 on a GPU
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import sentence_transformers
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import BertConfig, BertModel

from jobs import run, spec
from tests import lake, tiny
from tests.bench import corpus, turns
from transforms.device import choose_device

WIDTH = 384
WINDOW = 256


def minilm(folder: Path) -> Path:
    """A sentence-transformers folder of all-MiniLM-L6's shape with random weights."""
    torch.manual_seed(0)
    tiny.wordpiece(max_length=WINDOW, vocabulary=20_000).save_pretrained(folder / "plain")
    config = BertConfig(
        vocab_size=30522, hidden_size=WIDTH, num_hidden_layers=6, num_attention_heads=12, intermediate_size=4 * WIDTH
    )
    BertModel(config).save_pretrained(folder / "plain")
    steps = [Transformer(str(folder / "plain")), Pooling(WIDTH, "mean"), Normalize()]
    SentenceTransformer(modules=steps, device="cpu").save(str(folder / "model"))
    return folder / "model"


def job(model: Path, source: Path, sink: Path) -> None:
    """The job, through the same call as the command."""
    content = {
        "name": "embed",
        "source": {"path": str(source)},
        "tasks": [{"task": "embed", "column": "text", "model": str(model), "into": "vector", "dtype": "float32"}],
        "sink": {"path": str(sink)},
    }
    run.run(spec.parse(content))


def encode(model: Path, source: Path, sink: Path, batch_size: int) -> None:
    """sentence-transformers."""
    table = pq.read_table(source)
    encoder = SentenceTransformer(str(model), device=str(choose_device("auto")))
    vectors = encoder.encode(table["text"].to_pylist(), batch_size=batch_size, show_progress_bar=False)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH)
    sink.mkdir()
    pq.write_table(table.append_column("vector", column), sink / "part.parquet", compression="zstd")


def vectors(sink: Path) -> np.ndarray:
    """What an arm wrote, by id."""
    column = lake.read(sink)["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), WIDTH)


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    other = 8 if choose_device("auto").type == "cpu" else 128
    arms: dict[str, tuple[Callable[..., None], tuple]] = {
        "job": (job, ()),
        "encode 32": (encode, (32,)),
        f"encode {other}": (encode, (other,)),
    }
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = minilm(root), corpus.write(root / "source", arguments.rows)
        tokenizer = SentenceTransformer(str(model), device="cpu").tokenizer
        encoded = tokenizer(pq.read_table(source)["text"].to_pylist(), truncation=True, max_length=WINDOW)
        tokens = sum(map(len, encoded["input_ids"]))

        def call(function: Callable[..., None], extra: tuple, arm: str, repeat: int) -> None:
            function(model, source, root / f"{arm}-{repeat}".replace(" ", "-"), *extra)

        calls = {arm: partial(call, function, extra, arm) for arm, (function, extra) in arms.items()}
        seconds = turns.take(calls, arguments.repeats)
        difference = float(np.abs(vectors(root / "job-0") - vectors(root / "encode-32-0")).max())
    turns.show(seconds, tokens, "tokens/s", "encode 32")
    rate = turns.rates(seconds, tokens)
    best = max(value for arm, value in rate.items() if arm.startswith("encode"))
    summary = {
        "bench": "embed",
        "rows": arguments.rows,
        "tokens": tokens,
        "repeats": arguments.repeats,
        "tokens_per_s": {name: round(value) for name, value in rate.items()},
        "job_over_encode_32": round(rate["job"] / rate["encode 32"], 2),
        "job_over_best_encode": round(rate["job"] / best, 2),
        "largest_difference": difference,
        "versions": corpus.versions() | {"sentence-transformers": sentence_transformers.__version__},
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
