"""Text classification on a loaded model: see transforms/tasks/classify.py for its source and options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch

from transforms import decisions, heads
from transforms.annotate import Row, Steps, alone, cut_at, of_texts
from transforms.contract import Annotation
from transforms.errors import SpecError
from transforms.model import Model, logits
from transforms.softmax import softmax
from transforms.tasks.classify import LABEL, Options, gives_list
from transforms.tokens import cut_ids


@dataclass(frozen=True)
class Sequence:
    """Token ids of one window, and whether they are all that is left of a longer text."""

    ids: list[int]
    is_cut: bool = False


class Classifier:
    """Texts in, labels out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        self.options = options
        self.model = model
        self.labels = pa.array(heads.labels(model.config), pa.string())
        if isinstance(options.top_k, int) and options.top_k > len(self.labels):
            raise SpecError(
                f"top_k is {options.top_k}, and the model has {len(self.labels)} labels; give a number up to "
                f"{len(self.labels)}, or all"
            )
        self.gives_list = gives_list(options, model.config)
        self.independent = model.config.problem_type == "multi_label_classification" or len(self.labels) == 1
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = model.caps()
        # A window must have more tokens than its overlap with the next one, special tokens not counted.
        self.stride = min(options.stride, (model.max_length - model.tokenizer.num_special_tokens_to_add()) // 2)

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Classify the rows of a batch."""
        return alone(self.steps(batch), self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        texts = batch.column(self.options.column)
        work = of_texts(texts, self.tokenise, lambda s: len(s.ids), self.forward)
        gathered, failures, tokens, slots = yield from work
        scores = np.zeros((len(texts), len(self.labels)), dtype=np.float32)
        present = np.zeros(len(texts), dtype=bool)
        sure = np.full(len(texts), np.nan, dtype=np.float32)
        if gathered:
            present[list(gathered)] = True
            scores[present] = self.scores(gathered)
            sure[present] = decisions.sureness(scores[present], self.independent)
        confidence = None if self.model.config.problem_type == "regression" else sure
        cut = cut_at(gathered, len(texts), self.model.max_length)
        return Annotation(self.column(scores, present), failures, tokens, slots, confidence, cut_at=cut)

    def same(self, one: pa.Array, other: pa.Array) -> np.ndarray:
        """Whether two columns of the task have the same labels in each row, `(rows,)`."""
        return decisions.same(one, other, decisions.given_labels if self.independent else decisions.best_label)

    def tokenise(self, rows: list[Row]) -> list[tuple[Row, Sequence]]:
        """Rows -> their windows; one each unless `long_text: window`."""
        tokenizer, texts = self.model.tokenizer, [row.text for row in rows]
        if self.options.long_text == "truncate":
            every = cut_ids(tokenizer, texts, self.model.max_length)
            return [(row, Sequence(ids, is_cut)) for row, (ids, is_cut) in zip(rows, every, strict=True)]
        encoded = tokenizer(
            texts,
            truncation=True,
            max_length=self.model.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_overflowing_tokens=True,
            stride=self.stride,
        )
        windows = zip(encoded["overflow_to_sample_mapping"], encoded["input_ids"], strict=True)
        return [(rows[i], Sequence(ids)) for i, ids in windows]

    def forward(self, sequences: list[Sequence]) -> torch.Tensor:
        """Logits `(batch, labels)`."""
        return logits(self.model, [s.ids for s in sequences])

    def scores(self, gathered: dict[int, list[tuple[Sequence, np.ndarray]]]) -> np.ndarray:
        """Scores `(rows, labels)` in the order of the rows: the mean of a row's windows, weighted by their tokens."""
        rows = [gathered[row] for row in sorted(gathered)]
        scores = self.activate(np.stack([raw for windows in rows for _, raw in windows]))
        if len(scores) == len(rows):
            return scores
        weights = np.array([len(sequence.ids) for windows in rows for sequence, _ in windows])
        starts = np.cumsum([0, *(len(windows) for windows in rows[:-1])])
        return np.add.reduceat(scores * weights[:, None], starts) / np.add.reduceat(weights, starts)[:, None]

    def activate(self, raw: np.ndarray) -> np.ndarray:
        """Logits -> scores, both `(windows, labels)`, by the model's problem type."""
        problem = self.model.config.problem_type
        if problem == "regression":
            return raw
        if self.independent:
            return 1.0 / (1.0 + np.exp(-raw))
        return softmax(raw)

    def column(self, scores: np.ndarray, present: np.ndarray) -> pa.Array:
        """Scores `(rows, labels)` -> the Arrow column; rows not present are null."""
        if not self.gives_list:
            best = scores.argmax(axis=1)
            values = [self.labels.take(pa.array(best)), pa.array(scores[np.arange(len(scores)), best])]
            return pa.StructArray.from_arrays(values, fields=list(LABEL), mask=pa.array(~present))
        k = len(self.labels) if self.options.top_k in (None, "all") else min(int(self.options.top_k), len(self.labels))
        best = np.argsort(-scores[present], axis=1, kind="stable")[:, :k]
        flat = pa.StructArray.from_arrays(
            [self.labels.take(pa.array(best.ravel())), pa.array(np.take_along_axis(scores[present], best, 1).ravel())],
            fields=list(LABEL),
        )
        offsets = np.concatenate([[0], np.cumsum(present * k)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), flat, type=pa.list_(LABEL), mask=pa.array(~present))
