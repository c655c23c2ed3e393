"""Rows of many adapters in the same batches, against one adapter for all rows and against what people write instead.

    OMP_NUM_THREADS=1 python -m tests.bench.adapters [--shape minilm] [--adapters 50] [--rows 200] [--quick]

A classifier with random weights, LoRA of rank 8 on queries and values and a head of its own for each adapter; texts as
in the other benchmarks, the adapters in turn row by row. The arms take turns; CPU seconds of this process, because a
machine may be shared; the last line is JSON. Loading is timed separately, except where an arm loads again and again.

    one             one adapter for all rows, merged into the weights: what all others are compared with
    by row          each row with its own adapter (`adapter_column`)
    one run each    a run for each adapter: load it with the base, merge it, compute its rows
    in turn         PEFT: one base, all adapters loaded, set_adapter and the rows of each
    peft mixed      PEFT: `adapter_names=` over the same length-sorted batches
    peft one        PEFT: one adapter for all rows, not merged, the same batches
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, DistilBertConfig, DistilBertForSequenceClassification
from transformers.utils import logging

from tests import tiny
from tests.bench import corpus, turns
from transforms.batches import MAX_TOKENS, cut, padded
from transforms.by_row.annotator import RowAnnotator
from transforms.model import Model, load
from transforms.reference import ModelRef
from transforms.tasks import classify
from transforms.tokens import token_ids

SHAPES: dict[str, dict[str, int]] = {
    "tiny": {"dim": 64, "n_layers": 2, "n_heads": 2, "hidden_dim": 256},
    "minilm": {"dim": 384, "n_layers": 6, "n_heads": 12, "hidden_dim": 1536},
    "distilbert": {"dim": 768, "n_layers": 6, "n_heads": 12, "hidden_dim": 3072},
}
OPTIONS = classify.Options("text", long_text="truncate")
BASE = "one"


def base(folder: Path, shape: str) -> Path:
    """A classifier of that shape with a 512-token window."""
    torch.manual_seed(0)
    config = DistilBertConfig(vocab_size=30522, num_labels=4, **SHAPES[shape])
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    tiny.wordpiece(max_length=512, vocabulary=20_000).save_pretrained(folder)
    return folder


def adapters(model: Path, root: Path, count: int) -> list[str]:
    """Adapters with heads of their own and random weights."""
    from peft import LoraConfig, get_peft_model

    network = AutoModelForSequenceClassification.from_pretrained(model)
    config = LoraConfig(task_type="SEQ_CLS", r=8, target_modules=["q_lin", "v_lin"], init_lora_weights=False)
    adapted = get_peft_model(network, config)
    for i in range(count):
        torch.manual_seed(i)
        for name, parameter in adapted.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                torch.nn.init.normal_(parameter, std=0.02)
        adapted.save_pretrained(root / f"{i}")
    return [str(root / f"{i}") for i in range(count)]


class Peft:
    """One base with all adapters loaded, and the rows as length-sorted batches of the job's token budget."""

    def __init__(self, model: Path, folders: list[str], batch: pa.RecordBatch):
        from peft import PeftModel

        loaded = load(ModelRef(str(model), device="cpu"), classify.ARCHITECTURE)
        self.ids = token_ids(loaded.tokenizer, batch["text"].to_pylist(), loaded.max_length)
        self.names = [f"a{name}" for name in batch["who"].to_pylist()]
        network = AutoModelForSequenceClassification.from_pretrained(model).eval()
        self.network: Any = PeftModel.from_pretrained(network, folders[0], adapter_name="a0")
        for i, folder in enumerate(folders[1:], start=1):
            self.network.load_adapter(folder, adapter_name=f"a{i}")
        self.network.eval()

    def compute(self, rows: np.ndarray, **more: Any) -> None:
        """The logits of some rows."""
        lengths = np.array([len(self.ids[row]) for row in rows])
        for batch in cut(lengths, MAX_TOKENS["cpu"]):
            ids = torch.from_numpy(padded([self.ids[rows[i]] for i in batch], 0))
            mask = torch.from_numpy((np.arange(ids.shape[1]) < lengths[batch][:, None]).astype(np.int64))
            named = {name: [values[rows[i]] for i in batch] for name, values in more.items()}
            with torch.inference_mode():
                self.network(input_ids=ids, attention_mask=mask, **named)

    def mixed(self, _: int) -> None:
        """All rows, each batch with the names of its rows' adapters."""
        self.compute(np.arange(len(self.ids)), adapter_names=self.names)

    def one(self, _: int) -> None:
        """All rows with the first adapter."""
        self.network.set_adapter("a0")
        self.compute(np.arange(len(self.ids)))

    def in_turn(self, _: int) -> None:
        """The rows of one adapter after those of another."""
        for name in dict.fromkeys(self.names):
            self.network.set_adapter(name)
            self.compute(np.array([i for i, other in enumerate(self.names) if other == name]))


def one_model(model: Path, folder: str) -> Model:
    """The base with an adapter merged into it."""
    return load(ModelRef(str(model), adapter=folder, device="cpu"), classify.ARCHITECTURE)


def one_run_each(model: Path, folders: list[str], batch: pa.RecordBatch) -> None:
    """Load, merge and compute for each adapter in turn."""
    who = np.array(batch["who"].to_pylist())
    for i, folder in enumerate(folders):
        annotator = classify.load(OPTIONS, one_model(model, folder))
        annotator(batch.take(pa.array(np.flatnonzero(who == str(i)))))


def measure(shape: str, count: int, rows: int, repeats: int) -> dict[str, Any]:
    """CPU seconds of each arm, and of loading."""
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        model = base(root / "model", shape)
        folders = adapters(model, root / "adapters", count)
        batch = pa.record_batch({"text": corpus.texts(rows), "who": [str(i % count) for i in range(rows)]})
        loading: dict[str, float] = {}

        def loaded(name: str, make: Callable[[], Any]) -> Any:
            started = time.process_time()
            made = make()
            loading[name] = time.process_time() - started
            return made

        one = classify.load(OPTIONS, loaded("one", partial(one_model, model, folders[0])))
        reference = ModelRef(str(model), device="cpu", adapters=tuple(folders))
        every = loaded("by row", lambda: load(reference, classify.ARCHITECTURE))
        by_row = RowAnnotator(classify, OPTIONS, every, None, "who", {str(i): i for i in range(count)})
        assert by_row.mixes
        peft = loaded("peft", partial(Peft, model, folders, batch))
        annotation = by_row(batch)
        calls = {
            "one": lambda _: one(batch),
            "by row": lambda _: by_row(batch),
            "one run each": lambda _: one_run_each(model, folders, batch),
            "in turn": peft.in_turn,
            "peft mixed": peft.mixed,
            "peft one": peft.one,
        }
        seconds = turns.take(calls, repeats, clock=time.process_time)
    print(f"\n{shape}, {count} adapters, {rows} rows, {annotation.tokens} tokens")
    print("loading, CPU s: " + ", ".join(f"{name} {value:.1f}" for name, value in loading.items()))
    turns.show(seconds, annotation.tokens, "tokens/CPU s", BASE)
    medians = {arm: float(np.median(times)) for arm, times in seconds.items()}
    return {
        "tokens": annotation.tokens,
        "loading_s": {name: round(value, 2) for name, value in loading.items()},
        "seconds": {arm: round(value, 3) for arm, value in medians.items()},
        "over_one": {arm: round(value / medians[BASE], 2) for arm, value in medians.items()},
    }


def main() -> None:
    """Run the arms and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=list(SHAPES), default="minilm")
    parser.add_argument("--adapters", type=int, default=50)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny shape, 5 adapters, 40 rows, once")
    arguments = parser.parse_args()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    if arguments.quick:
        arguments.shape, arguments.adapters, arguments.rows, arguments.repeats = "tiny", 5, 40, 1
    found = measure(arguments.shape, arguments.adapters, arguments.rows, arguments.repeats)
    keys = {name: getattr(arguments, name) for name in ("shape", "adapters", "rows", "repeats")}
    print(json.dumps({"bench": "adapters", **keys, **found, "versions": _versions()}))


def _versions() -> dict[str, str]:
    import peft

    return corpus.versions() | {"peft": peft.__version__}


if __name__ == "__main__":
    main()
