"""A teacher and a smaller student that has learnt its scores, for the benchmark of cascades.

Both classify the sentiment of the demo's English reviews: with its seven languages a teacher that is trained in minutes
is too often wrong for a student to agree with. Two layers of each learn the true labels first; then the others are
added behind them with output weights of zero, which changes little of what the model says (growing a network: Chen et
al. 2016, Net2Net, arXiv:1511.05641), and all layers are trained together: those of the teacher on labels, those of the
student on the logarithms of the teacher's scores, with squared error (Ba and Caruana 2014, Do deep nets really need to
be deep?, arXiv:1312.6184). That takes a fraction of the time of training twelve layers from the start. The weights that
were zero are not zero afterwards; `added_weight` says how large they are.
"""

from __future__ import annotations

import copy
import hashlib
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import AutoModelForSequenceClassification, BertConfig, BertForSequenceClassification
from transformers import PreTrainedTokenizerFast as Tokenizer

from flows.demo.fit import fit
from flows.demo.grammar import SENTIMENTS
from flows.demo.head_start import give_head_start
from flows.demo.lake import GOLD_FILE, LANGUAGES, write_lake
from flows.demo.tokenizer import train_tokenizer

BEGUN_LAYERS, HEADS, WINDOW, VOCABULARY = 2, 4, 256, 6000
# Distances at which heads of the first layer attend at first: see `give_head_start`.
NEIGHBOURS = ((-1, -2, 1),)
Model = BertForSequenceClassification
# Logarithms of scores below this say no more.
LEAST_LOG = -6.0
# A model, texts -> its scores, `(texts, labels)` in the order of SENTIMENTS.
Says = Callable[[Path, list[str]], NDArray[np.float64]]


@dataclass(frozen=True)
class Course:
    """A model and its training.

    Attributes:
        hidden: hidden size; the feed-forward layers are twice as wide.
        layers: all of its layers.
        rows: reviews whose labels it learns.
        begun: for each epoch of the first two layers, the most tokens of a review.
        grown: the same for the epochs of all layers.
        rate: peak learning rate of the first two layers.
        grown_rate: peak learning rate of all layers.
        grown_rows: reviews that all layers learn.
    """

    hidden: int
    layers: int
    rows: int
    begun: tuple[int, ...]
    grown: tuple[int, ...]
    rate: float
    grown_rate: float
    grown_rows: int


@dataclass(frozen=True)
class Pair:
    """The courses of a teacher and its student."""

    teacher: Course
    student: Course


FULL = Pair(
    Course(384, 12, 8_000, (32,) * 4 + (64,) * 3 + (256,), (64,), 8e-4, 2e-4, 8_000),
    Course(128, 6, 8_000, (32,) * 4 + (64,) * 3 + (256,), (64, 256, 256, 256), 1.5e-3, 5e-4, 40_000),
)
QUICK = Pair(
    Course(96, 12, 600, (32,), (32,), 1e-3, 3e-4, 600),
    Course(32, 6, 600, (32,), (32,), 1e-3, 3e-4, 300),
)


def reviews(folder: Path, rows: int, seed: int) -> pa.Table:
    """`id`, `text` and `sentiment`, the true label, of that many English reviews of a new lake of the demo."""
    # Somewhat more, because some rows have no text.
    write_lake(folder, rows * 21 // 20 * len(LANGUAGES) // LANGUAGES.count("en") + len(LANGUAGES), seed)
    gold = pq.read_table(folder / GOLD_FILE, columns=["id", "sentiment"])
    table = ds.dataset(folder / "reviews" / "lang=en", format="parquet").to_table(["id", "text"])
    table = table.append_column(
        "sentiment", gold["sentiment"].take(pc.index_in(table["id"], gold["id"].combine_chunks()))
    )
    table = table.filter(pc.field("sentiment").is_valid())
    order = np.random.default_rng(seed).permutation(len(table))[:rows]
    return table.take(pa.array(order))


def train(folder: Path, pair: Pair, says: Says) -> tuple[Path, Path]:
    """The folders of the teacher and the student, which are trained if they are not there.

    Args:
        folder: keeps them, by a hash of their courses.
        pair: the courses.
        says: asks a model; the student learns what it says of reviews that the teacher has not learnt from.
    """
    teacher = folder / f"teacher-{_hash(pair.teacher)}"
    student = folder / f"student-{_hash(pair)}"
    texts, labels = _known(folder / "lakes/teacher", pair.teacher.rows, seed=7)
    tokenizer = train_tokenizer(texts, VOCABULARY, WINDOW)
    if not teacher.exists():
        model = begin(pair.teacher, tokenizer, texts, labels)
        rows = slice(pair.teacher.grown_rows)
        finish(model, pair.teacher, tokenizer, texts[rows], labels[rows], teacher)
    if not student.exists():
        course = pair.student
        texts, labels = _known(folder / "lakes/student", max(course.rows, course.grown_rows), seed=8)
        model = begin(course, tokenizer, texts[: course.rows], labels[: course.rows])
        texts = texts[: course.grown_rows]
        finish(model, pair.student, tokenizer, texts, targets(says(teacher, texts)), student)
    return teacher, student


def begin(course: Course, tokenizer: Tokenizer, texts: list[str], labels: list[list[int]]) -> Model:
    """A model of two layers that has learnt labels."""
    torch.manual_seed(7)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=course.hidden,
        num_hidden_layers=BEGUN_LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * course.hidden,
        max_position_embeddings=WINDOW,
        initializer_range=0.03,
        hidden_dropout_prob=0.1,
        attention_probs_dropout_prob=0.0,
        id2label=dict(enumerate(SENTIMENTS)),
        label2id={label: i for i, label in enumerate(SENTIMENTS)},
        problem_type="single_label_classification",
    )
    model = BertForSequenceClassification(config)
    give_head_start(model, NEIGHBOURS)
    _fit(model, tokenizer, texts, labels, course.begun, course.rate)
    return model


def targets(scores: NDArray[np.float64]) -> list[list[float]]:
    """What a student learns: the logarithms of scores, less their mean."""
    logs = np.maximum(np.log(np.maximum(scores, 1e-9)), LEAST_LOG)
    centred: list[list[float]] = (logs - logs.mean(axis=1, keepdims=True)).tolist()
    return centred


def finish(
    model: Model,
    course: Course,
    tokenizer: Tokenizer,
    texts: list[str],
    wanted: list[list[int]] | list[list[float]],
    folder: Path,
) -> None:
    """Add the other layers, train all of them on labels or on `targets`, and save the model."""
    _grow(model, course.layers)
    # transformers' loss for numbers is the squared error.
    model.config.problem_type = "regression" if len(wanted[0]) > 1 else "single_label_classification"
    _fit(model, tokenizer, texts, wanted, course.grown, course.grown_rate)
    model.config.problem_type = "single_label_classification"
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    model.save_pretrained(unfinished)
    tokenizer.save_pretrained(unfinished)
    unfinished.rename(folder)


def added_weight(folder: Path) -> float:
    """The mean size of an output weight of the layers that were added, as a share of that of the first two."""
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    sizes = [layer.output.dense.weight.abs().mean().item() for layer in model.bert.encoder.layer]
    begun, added = sizes[:BEGUN_LAYERS], sizes[BEGUN_LAYERS:]
    return sum(added) / len(added) / (sum(begun) / len(begun))


def _hash(course: Course | Pair) -> str:
    return hashlib.sha256(repr(course).encode()).hexdigest()[:12]


def _known(folder: Path, rows: int, seed: int) -> tuple[list[str], list[list[int]]]:
    """Texts and labels of reviews."""
    table = reviews(folder, rows, seed)
    return table["text"].to_pylist(), [[SENTIMENTS.index(label)] for label in table["sentiment"].to_pylist()]


def _fit(
    model: Model, tokenizer: Tokenizer, texts: list[str], wanted: list[Any], lengths: Sequence[int], rate: float
) -> None:
    ids = tokenizer(texts, truncation=True)["input_ids"]
    said = f"{model.config.num_hidden_layers} layers of {model.config.hidden_size}"
    fit(
        model,
        lambda rng: (ids, wanted),
        lengths=lengths,
        batch_tokens=768,
        learning_rate=rate,
        seed=7,
        stop=Event(),
        progress=lambda text: print(f"{said}: {text}", flush=True),
    )


def _grow(model: Model, layers: int) -> None:
    """Add layers behind those of a model, which at first only normalise what they get."""
    encoder = model.bert.encoder
    last = encoder.layer[-1]
    for number in range(len(encoder.layer), layers):
        added = copy.deepcopy(last)
        for part in (added.attention.output, added.output):
            torch.nn.init.zeros_(part.dense.weight)
            torch.nn.init.zeros_(part.dense.bias)
            if number < layers - 1 or part is added.attention.output:
                torch.nn.init.ones_(part.LayerNorm.weight)
                torch.nn.init.zeros_(part.LayerNorm.bias)
        encoder.layer.append(added)
    model.config.num_hidden_layers = layers
