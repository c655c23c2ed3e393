"""The demo's models: two small BERTs, trained from scratch on the lake's training rows in about a minute."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from random import Random
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from filelock import FileLock
from transformers import (
    BatchEncoding,
    BertConfig,
    BertForSequenceClassification,
    BertForTokenClassification,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from flows.demo.fit import IGNORED, Rows, fit
from flows.demo.grammar import SENTIMENTS
from flows.demo.head_start import give_head_start
from flows.demo.lake import GOLD_FILE
from flows.demo.tokenizer import train_tokenizer

MAX_TOKENS = 256
BIO = ("O", *(f"{prefix}-{label}" for label in ("PERSON", "CITY", "PRODUCT") for prefix in "BI"))
WORD = re.compile(r"[^\W\d_]+")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class DemoModels:
    """Folders that transformers' auto classes load.

    Attributes:
        classify: sequence classification, negative, neutral or positive.
        ner: token classification, BIO labels of PERSON, CITY and PRODUCT.
    """

    classify: Path
    ner: Path


@dataclass(frozen=True)
class Course:
    """The settings that differ between the two trainings.

    Attributes:
        lengths: for each epoch, the maximum number of tokens of a text.
        neighbours: the distances at which attention heads attend at first, see `give_head_start`.
        dropout: dropout of the hidden states. It uses torch's global random generator, and two threads that share it
            get different numbers in each run, so only one of the two trainings may have dropout.
    """

    lengths: tuple[int, ...]
    neighbours: tuple[tuple[int, ...], ...]
    dropout: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """The settings of the training; with another recipe the models are trained again.

    Attributes:
        version: increased when the training code changes in a way that the other fields do not show.
        classify: settings for the sentiment model.
        ner: settings for the entity model.
        vocabulary: number of word pieces.
        hidden: hidden size.
        layers: number of layers.
        heads: attention heads per layer.
        batch_tokens: token positions in a batch, including padding.
        learning_rate: peak learning rate.
        disguised: share of the words in names whose letters are shuffled in an epoch, so that the model also learns to
            find entities by their context.
        seed: seed of weights, order, dropout and shuffled names.
    """

    version: int = 1
    classify: Course = Course((32,) * 4 + (40,) * 2 + (64,) * 3 + (256,) * 2, ((-1, -2, 1),), dropout=0.1)
    ner: Course = Course((64,) * 4 + (256,) * 2, ((-1, 1, -2, 2), (-1, 1)))
    vocabulary: int = 6000
    hidden: int = 128
    layers: int = 2
    heads: int = 4
    batch_tokens: int = 768
    learning_rate: float = 1.5e-3
    disguised: float = 0.5
    seed: int = 7


def train_models(
    lake: Path, folder: Path, *, recipe: Recipe | None = None, progress: Progress = lambda _: None
) -> DemoModels:
    """Train both models on the training rows of a lake, unless that was done before.

    The folder of the models is named by a hash of the lake and the recipe, and is created when both models are
    complete. A second process waits until the first has finished.

    Args:
        lake: a folder that `write_lake` wrote.
        folder: folder for the models.
        recipe: settings of the training.
        progress: called with a short description of the current step, from two threads.

    Raises:
        FileNotFoundError: `lake` has no lake.
    """
    recipe = recipe or Recipe()
    home = folder / _key(lake, recipe)
    made = DemoModels(home / "classify", home / "ner")
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / ".lock"):
        if home.is_dir():
            return made
        for left_over in folder.glob(".training-*"):
            shutil.rmtree(left_over)
        training = Path(tempfile.mkdtemp(prefix=".training-", dir=folder))
        threads = torch.get_num_threads()
        try:
            with torch.random.fork_rng(devices=[]):
                _train_both(training_rows(lake), training, recipe, progress)
        finally:
            # Each training has set one thread for itself, which is also what threads that start later would have.
            torch.set_num_threads(threads)
        training.chmod(0o755)
        training.rename(home)
    return made


def _key(lake: Path, recipe: Recipe) -> str:
    """A hash of the texts, the gold and the recipe."""
    total = hashlib.sha256(json.dumps(asdict(recipe), sort_keys=True).encode())
    for file in (lake / GOLD_FILE, *sorted((lake / "reviews").rglob("*.parquet"))):
        total.update(file.read_bytes())
    return total.hexdigest()[:16]


def training_rows(lake: Path) -> pa.Table:
    """`text`, `sentiment` and `entities` of the training rows with a text, in the order of their ids."""
    gold = pq.read_table(lake / GOLD_FILE)
    gold = gold.filter((pc.field("split") == "train") & pc.field("sentiment").is_valid())
    reviews = ds.dataset(lake / "reviews", format="parquet").to_table(["id", "text"])
    return gold.append_column("text", reviews["text"].take(pc.index_in(gold["id"], reviews["id"].combine_chunks())))


def _train_both(rows: pa.Table, folder: Path, recipe: Recipe, progress: Progress) -> None:
    """Train the tokenizer, then both models at the same time, each on its own core."""
    texts, sentiments, entities = (rows[name].to_pylist() for name in ("text", "sentiment", "entities"))
    progress("training the tokenizer")
    tokenizer = train_tokenizer(texts, recipe.vocabulary, MAX_TOKENS)

    def encode(rng: Random) -> BatchEncoding:
        disguised = [_disguised(*row, recipe.disguised, rng) for row in zip(texts, entities, strict=True)]
        return tokenizer(disguised, truncation=True, return_offsets_mapping=True)

    def classify_rows(rng: Random) -> Rows:
        return encode(rng)["input_ids"], [[SENTIMENTS.index(label)] for label in sentiments]

    def ner_rows(rng: Random) -> Rows:
        encoded = encode(rng)
        return encoded["input_ids"], [_bio(*row) for row in zip(encoded["offset_mapping"], entities, strict=True)]

    torch.manual_seed(recipe.seed)
    classifier = BertForSequenceClassification(_config(tokenizer, SENTIMENTS, recipe, recipe.classify))
    recogniser = BertForTokenClassification(_config(tokenizer, BIO, recipe, recipe.ner))
    work = (
        ("classify", classifier, classify_rows, recipe.classify),
        ("ner", recogniser, ner_rows, recipe.ner),
    )
    stop = Event()
    with ThreadPoolExecutor(len(work)) as pool:
        fits = []
        for name, model, make_rows, course in work:
            give_head_start(model, course.neighbours)
            fits.append(
                pool.submit(
                    fit,
                    model,
                    make_rows,
                    lengths=course.lengths,
                    batch_tokens=recipe.batch_tokens,
                    learning_rate=recipe.learning_rate,
                    seed=recipe.seed,
                    stop=stop,
                    progress=partial(_say, progress, name),
                )
            )
        try:
            for done in fits:
                done.result()
        finally:
            stop.set()
    for name, model, *_ in work:
        with _no_progress_bar():
            model.save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)


def _say(progress: Progress, name: str, text: str) -> None:
    progress(f"training {name}: {text}")


def _disguised(text: str, entities: Iterable[dict[str, Any]], share: float, rng: Random) -> str:
    """Shuffle the letters of some words in names; lengths and the places of capitals stay the same.

    Without this a model of this size memorises names, and found none of the names that are only in held-out rows.
    """
    letters = list(text)
    for entity in entities:
        for word in WORD.finditer(text, entity["start"], entity["end"]):
            if rng.random() < share:
                shuffled = rng.sample(word[0].lower(), len(word[0].lower()))
                letters[word.start() : word.end()] = [
                    new.upper() if old.isupper() and len(new.upper()) == 1 else new
                    for old, new in zip(word[0], shuffled, strict=False)
                ]
    return "".join(letters)


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keep save_pretrained from drawing on the terminal."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _config(tokenizer: PreTrainedTokenizerFast, labels: Sequence[str], recipe: Recipe, course: Course) -> BertConfig:
    return BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=recipe.hidden,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        intermediate_size=2 * recipe.hidden,
        max_position_embeddings=MAX_TOKENS,
        initializer_range=0.03,
        hidden_dropout_prob=course.dropout,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
    )


def _bio(offsets: Sequence[tuple[int, int]], entities: Iterable[dict[str, Any]]) -> list[int]:
    """The BIO label of every token; special tokens, which span no characters, are ignored."""
    starts, ends = np.array(offsets).T
    tags = np.where(starts == ends, IGNORED, 0)
    for entity in entities:
        inside = (starts < entity["end"]) & (ends > entity["start"])
        tags[inside] = BIO.index(f"I-{entity['label']}")
        tags[inside & (starts == entity["start"])] = BIO.index(f"B-{entity['label']}")
    return tags.tolist()
