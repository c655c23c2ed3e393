"""Zero-shot classification on a loaded model: see transforms/tasks/zero_shot.py for its source and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from transforms import decisions, pairs
from transforms.annotate import Steps, Work, alone, cut_at
from transforms.contract import Annotation
from transforms.model import Model, logits
from transforms.softmax import softmax
from transforms.tasks.zero_shot import LABEL, Options, entailment
from transforms.tokens import call_cut, is_cut

# Pairs that are tokenised and sorted together: their token lists stay below about 100 MB for any number of labels.
PIECE_PAIRS = 16_384


@dataclass(frozen=True)
class Item:
    """A row to annotate: its index in the batch, its text, its labels."""

    index: int
    text: str
    labels: list[str]


@dataclass(frozen=True)
class Pair:
    """A text and one hypothesis as one sequence, and whether the text was cut."""

    ids: list[int]
    type_ids: list[int]
    is_cut: bool = False


class ZeroShotClassifier:
    """Texts and labels in, scored labels out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.options = options
        self.model = model
        self.entailment = entailment(model.config)
        # The pipeline's rule: the first label is contradiction, or the last one if the first is entailment.
        self.contradiction = -1 if self.entailment == 0 else 0
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = model.caps()
        self.template = pairs.learn(model.tokenizer)
        self.independent = options.multi_label

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Score the labels of every row of a batch."""
        return alone(self.steps(batch), self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        items = self.items(batch)
        most = max((len(item.labels) for item in items), default=1)
        pieces = max(1, PIECE_PAIRS // most)
        gathered, failures, tokens, slots = yield Work(
            items, self.tokenise, lambda pair: len(pair.ids), self.forward, pieces
        )
        values: list[list[dict[str, Any]] | None] = [None] * len(batch)
        sure = np.full(len(batch), np.nan, dtype=np.float32)
        for item in items:
            if item.index in gathered:
                scores = self.scores(np.stack([raw for _, raw in gathered[item.index]]))
                sure[item.index] = decisions.sureness(scores[None], self.independent or len(scores) == 1)[0]
                best = scores.argsort()[::-1][: self.options.top_k]
                values[item.index] = [{"label": item.labels[i], "score": scores[i]} for i in best]
        cut = cut_at(gathered, len(batch), self.model.max_length)
        return Annotation(pa.array(values, pa.list_(LABEL)), failures, tokens, slots, sure, cut_at=cut)

    def same(self, one: pa.Array, other: pa.Array) -> np.ndarray:
        """Whether two columns of the task decide alike in each row, `(rows,)`."""
        several = decisions.same(one, other, decisions.given_labels)
        if self.independent:
            return several
        best = decisions.same(one, other, decisions.best_label)
        if self.options.labels is not None and len(self.options.labels) > 1:
            return best
        # The score of a label that is the only one of its row is independent too. With top_k: 1 it may be the best of
        # several; then both have to be the same.
        alone = np.array([value is not None and len(value) == 1 for value in one.to_pylist()], bool)
        return best & (several | ~alone)

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
        bare = pairs.bare(tokenizer, [item.text for item in items], truncation=True, max_length=room)
        texts = [(ids, is_cut(it, room)) for ids, it in zip(bare["input_ids"], bare.encodings, strict=True)]
        unique = list(dict.fromkeys(label for item in items for label in item.labels))
        sentences = pairs.bare(tokenizer, [self.options.hypothesis.format(label) for label in unique])["input_ids"]
        hypotheses = dict(zip(unique, sentences, strict=True))
        return [
            (item, self.pair(self.template, text, hypotheses[label], label, was_cut))
            for item, (text, was_cut) in zip(items, texts, strict=True)
            for label in item.labels
        ]

    def pair(self, template: pairs.Template, text: list[int], hypothesis: list[int], label: str, was_cut: bool) -> Pair:
        """A text, cut to the room that the hypothesis leaves, and the hypothesis."""
        room = self.model.max_length - template.special - len(hypothesis)
        if room < 1:
            raise ValueError(
                f"the hypothesis for label {label[:80]!r} has {len(hypothesis)} tokens, "
                f"which leaves no room for the text in a window of {self.model.max_length}"
            )
        kept = text[-room:] if self.model.tokenizer.truncation_side == "left" else text[:room]
        type_ids = template.type_ids(len(kept), len(hypothesis))
        return Pair(template.ids(kept, hypothesis), type_ids, was_cut or len(kept) < len(text))

    def tokenise_whole(self, items: list[Item]) -> list[tuple[Item, Pair]]:
        """The same for a tokenizer without a template: each pair is tokenised separately."""
        rows = [(item, label) for item in items for label in item.labels]
        encoded, cut = call_cut(
            self.model.tokenizer,
            [item.text for item, _ in rows],
            [self.options.hypothesis.format(label) for _, label in rows],
            truncation="only_first",
            max_length=self.model.max_length,
            return_token_type_ids=True,
        )
        columns_ = zip(rows, encoded["input_ids"], encoded["token_type_ids"], cut, strict=True)
        return [(item, Pair(ids, type_ids, was_cut)) for (item, _), ids, type_ids, was_cut in columns_]

    def forward(self, sequences: list[Pair]) -> torch.Tensor:
        """Logits `(batch, labels of the model)`."""
        return logits(self.model, [pair.ids for pair in sequences], [pair.type_ids for pair in sequences])

    def scores(self, raw: np.ndarray) -> np.ndarray:
        """Logits `(labels, labels of the model)` of one text -> its scores `(labels,)`."""
        if self.options.multi_label or len(raw) == 1:
            return softmax(raw[:, [self.contradiction, self.entailment]])[:, 1]
        return softmax(raw[:, self.entailment])
