"""Real tokens a second of a whole embed job, file to file, against sentence-transformers' encode.

    python -m tests.bench.embed [--rows 400] [--repeats 5] [--pooling mean] [--process] [--cpu] [--quick]

Every arm loads the model, reads the same Parquet file and writes Parquet; all of that is timed. The arms take turns,
repeat by repeat; medians are of the repeats; the last line is JSON, with the kind of processor. The model has
MiniLM-L6's shape (6 layers, 384 wide, a 256-token window) and random weights; pooling and normalisation as its folder
says. --process and --cpu are those of `tests.bench.encoder`.

    job           nightscribe, in float32, in the half precision that it chooses here, if any, and in int8 on a CPU
    job later     int8 on a later night, which finds in the sink how well int8 agrees with float32
    encode 32     SentenceTransformer.encode as most use it
    encode best   the same with the batch size that is best here, found before the repeats; in the same dtypes
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from transformers import AutoTokenizer, BertConfig, BertModel

from tests import lake, tiny
from tests.bench import corpus, libraries, tuning, turns, whole_jobs
from tests.bench.order import Arm, Order
from transforms.device import choose_device

WIDTH = 384
WINDOW = 256
BASE = "encode 32 float32"


def minilm(folder: Path, pooling: str = "mean") -> Path:
    """A sentence-transformers folder of all-MiniLM-L6's shape with random weights."""
    torch.manual_seed(0)
    tiny.wordpiece(max_length=WINDOW, vocabulary=20_000).save_pretrained(folder)
    config = BertConfig(
        vocab_size=30522, hidden_size=WIDTH, num_hidden_layers=6, num_attention_heads=12, intermediate_size=4 * WIDTH
    )
    BertModel(config).save_pretrained(folder)
    steps = {
        "": "base.modules.transformer.Transformer",
        "1_Pooling": "sentence_transformer.modules.pooling.Pooling",
        "2_Normalize": "sentence_transformer.modules.normalize.Normalize",
    }
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
        for i, (path, kind) in enumerate(steps.items())
    ]
    files: dict[str, Any] = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": WINDOW},
        "1_Pooling/config.json": {"embedding_dimension": WIDTH, "pooling_mode": pooling},
        "2_Normalize/config.json": {},
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    return folder


def arms_here() -> dict[str, Arm]:
    """The arms that can run here by name."""
    found = whole_jobs.jobs()
    if importlib.util.find_spec("sentence_transformers") is None:
        print("skipped encode: sentence-transformers not installed; pip install 'nightscribe[bench]'")
        return found
    encode = "tests.bench.libraries:encode"
    found[BASE] = Arm(encode, "float32", {"batch_size": 32})
    return found | {f"encode best {dtype}": Arm(encode, dtype, {}, "batch_size") for dtype in whole_jobs.dtypes()}


def vectors(sink: Path) -> np.ndarray:
    """What an arm wrote, by id."""
    column = lake.read(sink)["vector"].combine_chunks()
    return column.flatten().to_numpy().reshape(len(column), WIDTH)


def best_batch(arm: str, order: Order, clock: Any) -> int:
    """The batch size at which encode is fastest."""
    loaded, texts = libraries.encoder(order), tuning.rows_of(order)
    tried = tuning.best(
        tuning.BATCH_SIZES[choose_device("auto").type],
        lambda size: loaded.encode(texts, batch_size=size, show_progress_bar=False),
        clock,
    )
    tuning.say(arm, tried, "best batch size")
    return next(iter(tried))


def main() -> None:
    """Run the arms in turn and print a table."""
    parser = whole_jobs.options(__doc__, rows=400, repeats=5, quick_rows=32)
    parser.add_argument("--pooling", choices=["mean", "cls", "lasttoken"], default="mean")
    settings = whole_jobs.begin(parser)
    chosen = arms_here()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        model, source = minilm(root / "model", settings.pooling), corpus.write(root / "source", settings.rows)
        texts = pq.read_table(source)["text"].to_pylist()
        encoded = AutoTokenizer.from_pretrained(model)(texts, truncation=True, max_length=WINDOW)
        tokens = sum(map(len, encoded["input_ids"]))
        orders = {
            arm: Order("embed", model, source, root / arm.replace(" ", "-"), how.dtype) for arm, how in chosen.items()
        }
        batches = {arm: best_batch(arm, orders[arm], settings.clock) for arm, how in chosen.items() if how.tuned}
        calls = whole_jobs.calls(chosen, orders, batches, settings.process, corpus.write(root / "few", 4))
        seconds = turns.take(calls, settings.repeats, settings.clock)
        same = {}
        if BASE in chosen:
            want = vectors(root / f"{BASE.replace(' ', '-')}-0")
            same = {"largest_difference": float(np.abs(vectors(root / "job-float32-0") - want).max())}
            if "job int8" in chosen:
                cosines = (vectors(root / "job-int8-0") * want).sum(1)
                same["mean_cosine_int8"] = round(float(cosines.mean()), 4)
    turns.show(seconds, tokens, "tokens/s", BASE if BASE in chosen else "job float32")
    rate = turns.rates(seconds, tokens)
    summary: dict[str, Any] = {
        "bench": "embed",
        "tokens": tokens,
        "tokens_per_s": {name: round(value) for name, value in rate.items()},
        "best_batch": batches,
        **turns.tell("embed", rate),
        **turns.over(rate, "encode"),
        **same,
        **whole_jobs.described(settings),
    }
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
