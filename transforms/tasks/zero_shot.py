"""Zero-shot classification: how well each of some labels, named in the job or in a column, describes a text.

Source: Yin et al. 2019, Benchmarking Zero-shot Text Classification (arXiv:1909.00161): a model trained on natural
language inference scores whether the text entails "This example is LABEL."; labels, their order and their scores are
those of transformers' zero-shot-classification pipeline.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForSequenceClassification, PretrainedConfig

from transforms import pairs
from transforms.batches import Caps
from transforms.errors import ModelError
from transforms.model import Model, logits
from transforms.task import Annotation, annotate_rows, column_field, require_head, typed_labels

ARCHITECTURE = AutoModelForSequenceClassification
VERSION = 1

# Pairs tokenised and sorted together: their token lists stay below some 100 MB however many labels a row has.
PIECE_PAIRS = 16_384

LABEL = pa.struct([("label", pa.string()), ("score", pa.float32())])


@dataclass(frozen=True)
class Options:
    """What a job file may say about `zero_shot`.

    Attributes:
        column: text column (string).
        labels: the labels to choose from, the same for every row.
        labels_column: column with the labels of each row (list<string>); null and empty labels are left out.
        hypothesis: the sentence that a label is put into, in the place of its {}.
        multi_label: score each label by itself; otherwise the scores of a row add up to 1.
        top_k: give the k best labels only.
    """

    column: str = column_field("text column")
    labels: list[str] | None = None
    labels_column: str | None = column_field("column with the labels of each row", "list<string>", default=None)
    hypothesis: str = "This example is {}."
    multi_label: bool = False
    top_k: int | None = None

    def __post_init__(self) -> None:
        if (self.labels is None) == (self.labels_column is None):
            raise ValueError("give either labels (a list for all rows) or labels_column, and not both")
        if self.labels is not None and not (self.labels and all(self.labels)):
            raise ValueError(f"labels is {self.labels}; give at least one label, and none that is empty")
        if self.top_k is not None and self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give a number of labels from 1")
        try:
            fits = self.hypothesis.format("one") != self.hypothesis.format("two")
        except (IndexError, KeyError, ValueError):
            fits = False
        if not fits:
            raise ValueError(f"hypothesis is {self.hypothesis!r}; put one {{}} where the label goes")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without a classification head, or without a label for entailment."""
    require_head(config, "ForSequenceClassification", "zero_shot")
    if config is not None:
        entailment(config)


def entailment(config: PretrainedConfig) -> int:
    """Which logit says that the hypothesis follows from the text.

    Raises:
        ModelError: none of the labels does.
    """
    labels = typed_labels(config)
    for index, label in enumerate(labels):
        if label.lower().startswith("entail") and len(labels) > 1:
            return index
    raise ModelError(
        f"zero_shot needs a model with a label called entailment beside others, and this one has {', '.join(labels)}; "
        f"choose a model that was trained on natural language inference (NLI), or name its labels in config.json"
    )


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """list<struct<label: string, score: float32>>, best first."""
    return pa.list_(LABEL)


@dataclass(frozen=True)
class Item:
    """A row to annotate: its index in the batch, its text, its labels."""

    index: int
    text: str
    labels: list[str]


@dataclass(frozen=True)
class Pair:
    """A text and one hypothesis as one sequence."""

    ids: list[int]
    type_ids: list[int]


class ZeroShotClassifier:
    """Texts and labels in, scored labels out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.options = options
        self.model = model
        self.entailment = entailment(model.config)
        # The pipeline's rule: the first label speaks against, or the last one where the first is entailment.
        self.contradiction = -1 if self.entailment == 0 else 0
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = Caps()
        self.template = pairs.learn(model.tokenizer)

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Score the labels of every row of a batch."""
        items = self.items(batch)
        most = max((len(item.labels) for item in items), default=1)
        gathered, failures, tokens, slots = annotate_rows(
            items,
            self.tokenise,
            lambda pair: len(pair.ids),
            self.forward,
            self.max_tokens,
            self.caps,
            piece_rows=max(1, PIECE_PAIRS // most),
        )
        values: list[list[dict[str, Any]] | None] = [None] * len(batch)
        for item in items:
            if item.index in gathered:
                scores = self.scores(np.stack([raw for _, raw in gathered[item.index]]))
                best = scores.argsort()[::-1][: self.options.top_k]
                values[item.index] = [{"label": item.labels[i], "score": scores[i]} for i in best]
        return Annotation(pa.array(values, pa.list_(LABEL)), failures, tokens, slots)

    def items(self, batch: pa.RecordBatch) -> list[Item]:
        """The rows of a batch that have a text and a label."""
        texts = batch.column(self.options.column).to_pylist()
        if self.options.labels_column is None:
            fixed = self.options.labels or []
            return [Item(i, text, fixed) for i, text in enumerate(texts) if text]
        rows = batch.column(self.options.labels_column).to_pylist()
        labels = [[label for label in row or () if label] for row in rows]
        return [Item(i, text, labels[i]) for i, text in enumerate(texts) if text and labels[i]]

    def tokenise(self, items: list[Item]) -> list[tuple[Item, Pair]]:
        """Rows -> a pair for each of their labels; a text that is too long is cut, a hypothesis never.

        Raises:
            ValueError: a hypothesis leaves no room for the text.
        """
        if self.template is None:
            return self.tokenise_whole(items)
        room = self.model.max_length - self.template.special
        tokenizer = self.model.tokenizer
        texts = pairs.bare(tokenizer, [item.text for item in items], truncation=True, max_length=room)["input_ids"]
        unique = list(dict.fromkeys(label for item in items for label in item.labels))
        sentences = pairs.bare(tokenizer, [self.options.hypothesis.format(label) for label in unique])["input_ids"]
        hypotheses = dict(zip(unique, sentences, strict=True))
        return [
            (item, self.pair(self.template, text, hypotheses[label], label))
            for item, text in zip(items, texts, strict=True)
            for label in item.labels
        ]

    def pair(self, template: pairs.Template, text: list[int], hypothesis: list[int], label: str) -> Pair:
        """A text, cut to the room that the hypothesis leaves, and the hypothesis."""
        room = self.model.max_length - template.special - len(hypothesis)
        if room < 1:
            raise ValueError(
                f"the hypothesis for label {label[:80]!r} has {len(hypothesis)} tokens, "
                f"which leaves no room for the text in a window of {self.model.max_length}"
            )
        kept = text[-room:] if self.model.tokenizer.truncation_side == "left" else text[:room]
        return Pair(template.ids(kept, hypothesis), template.type_ids(len(kept), len(hypothesis)))

    def tokenise_whole(self, items: list[Item]) -> list[tuple[Item, Pair]]:
        """The same for a tokenizer that joins texts in a way of its own: each pair by itself."""
        rows = [(item, label) for item in items for label in item.labels]
        encoded = self.model.tokenizer(
            [item.text for item, _ in rows],
            [self.options.hypothesis.format(label) for _, label in rows],
            truncation="only_first",
            max_length=self.model.max_length,
            return_attention_mask=False,
            return_token_type_ids=True,
        )
        columns_ = zip(rows, encoded["input_ids"], encoded["token_type_ids"], strict=True)
        return [(item, Pair(ids, type_ids)) for (item, _), ids, type_ids in columns_]

    def forward(self, sequences: list[Pair]) -> torch.Tensor:
        """Logits `(batch, labels of the model)`."""
        return logits(self.model, [pair.ids for pair in sequences], [pair.type_ids for pair in sequences])

    def scores(self, raw: np.ndarray) -> np.ndarray:
        """Logits `(labels, labels of the model)` of one text -> its scores `(labels,)`."""
        if self.options.multi_label or len(raw) == 1:
            return _softmax(raw[:, [self.contradiction, self.entailment]])[:, 1]
        return _softmax(raw[:, self.entailment])


def _softmax(raw: np.ndarray) -> np.ndarray:
    shifted = np.exp(raw - raw.max(axis=-1, keepdims=True))
    return shifted / shifted.sum(axis=-1, keepdims=True)


def load(options: Options, model: Model, max_tokens: int | None = None) -> ZeroShotClassifier:
    """The task on a loaded model."""
    return ZeroShotClassifier(options, model, max_tokens)
