"""A heavy-tailed corpus and models of real size with random weights: speed does not depend on what the weights say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    DistilBertConfig,
    DistilBertForSequenceClassification,
    DistilBertForTokenClassification,
    PreTrainedTokenizerFast,
)

from tests import tiny


def texts(rows: int, seed: int = 0) -> list[str]:
    """Texts with log-normal lengths: median 50 words, a tail past 1,000; a word is about 1.2 tokens of `distilbert`."""
    rng = np.random.default_rng(seed)
    words = np.array(sorted({word for text in tiny.texts(200, seed=9)[11:] for word in text.split()}))
    lengths = np.clip(rng.lognormal(np.log(50), 0.9, rows), 1, 3000).astype(int)
    return [" ".join(rng.choice(words, length)) for length in lengths]


def distilbert(folder: Path, task: str = "classify") -> Path:
    """A classifier, or a recogniser of four kinds of entities, of DistilBERT-base's shape with a 512-token window."""
    torch.manual_seed(0)
    tokenizer = tiny.wordpiece(max_length=512, vocabulary=20_000)
    if task == "classify":
        network = DistilBertForSequenceClassification(DistilBertConfig(vocab_size=30522, num_labels=2))
    else:
        names = ["O", *(f"{part}-{kind}" for kind in ("PER", "LOC", "ORG", "MISC") for part in "BI")]
        network = DistilBertForTokenClassification(DistilBertConfig(vocab_size=30522, id2label=dict(enumerate(names))))
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def word_level(words: list[str], max_length: int, **more: Any) -> PreTrainedTokenizerFast:
    """A tokenizer whose tokens are the words between spaces, in the order given; `<unk>`, `<pad>` and `</s>` too."""
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        model_max_length=max_length,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        **more,
    )


def write(folder: Path, rows: int, file_rows: int = 250_000, row_group_rows: int = 50_000, short: bool = False) -> Path:
    """Parquet files with an id and a text; `short` ones are a line each, for counting rows and not tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    pool = [text[:80] for text in texts(1000)] if short else texts(rows)
    for start in range(0, rows, file_rows):
        ids = np.arange(start, min(start + file_rows, rows))
        table = pa.table({"id": ids, "text": pa.array([f"{pool[i % len(pool)]} {i}" for i in ids], pa.string())})
        pq.write_table(table, folder / f"part-{start:09d}.parquet", row_group_size=row_group_rows)
    return folder


def versions() -> dict[str, str]:
    """The libraries that a figure depends on."""
    import apache_beam
    import transformers

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "apache-beam": apache_beam.__version__,
        "pyarrow": pa.__version__,
        "threads": str(torch.get_num_threads()),
    }
