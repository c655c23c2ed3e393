"""Named entity recognition: labelled character spans of each text.

Source: the AutoModelForTokenClassification heads of transformers; spans and scores are what its token-classification
pipeline gives with the same aggregation strategy (and, for long texts, the same stride). See transforms/spans.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoModelForTokenClassification, PretrainedConfig

from transforms.batches import MAX_TOKENS, Caps
from transforms.errors import ModelError
from transforms.model import Model, logits
from transforms.spans import Aggregation, Scheme, Span, merge_windows, spans
from transforms.task import Annotation, Row, annotate_texts, column_field, require_head, typed_labels

ARCHITECTURE = AutoModelForTokenClassification
VERSION = 1

ENTITY = pa.struct(
    [
        ("label", pa.string()),
        ("text", pa.string()),
        ("start", pa.int32()),
        ("end", pa.int32()),
        ("score", pa.float32()),
    ]
)


@dataclass(frozen=True)
class Options:
    """What a job file may say about `ner`.

    Attributes:
        column: text column (string).
        aggregation: simple lets every token speak for itself; first, average and max give each word one label.
        long_text: what happens to a text past the model's window: read it in overlapping windows, or cut it off.
        stride: tokens that neighbouring windows share.
    """

    column: str = column_field("text column")
    aggregation: Aggregation = "simple"
    long_text: Literal["window", "truncate"] = "window"
    stride: int = 64

    def __post_init__(self) -> None:
        if self.stride < 0:
            raise ValueError(f"stride is {self.stride}; give a number of tokens from 0")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without a token classification head."""
    require_head(config, "ForTokenClassification", "ner")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """list<struct<label: string, text: string, start: int32, end: int32, score: float32>>.

    Offsets count Unicode code points of the original string; `text` is the string between them.
    """
    return pa.list_(ENTITY)


@dataclass(frozen=True)
class Sequence:
    """One window: token ids, and for its tokens that are not special where they stand in the text."""

    ids: list[int]
    kept: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    subword: np.ndarray


class EntityRecogniser:
    """Texts in, entities out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        if not model.tokenizer.is_fast:
            raise ModelError("ner needs a fast tokenizer (tokenizer.json) for character offsets; this model has none")
        # The window must be wider than what two windows share, special tokens apart.
        room = model.max_length - model.tokenizer.num_special_tokens_to_add()
        self.stride = min(options.stride, room // 2)
        self.options = options
        self.model = model
        self.scheme = Scheme(typed_labels(model.config))
        self.max_tokens = max_tokens or MAX_TOKENS[model.device.type]
        self.caps = Caps()
        # A WordPiece-like tokenizer marks continuations, so a token longer than its text continues a word.
        backend = model.tokenizer.backend_tokenizer.model
        self.marks_subwords = bool(getattr(backend, "continuing_subword_prefix", None))
        vocabulary = model.tokenizer.convert_ids_to_tokens(list(range(len(model.tokenizer))))
        self.token_length = np.array([len(token or "") for token in vocabulary])

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Find the entities in the rows of a batch."""
        texts = batch.column(self.options.column)
        gathered, failures, tokens, slots = annotate_texts(
            texts, self.tokenise, lambda s: len(s.ids), self.forward, self.max_tokens, self.caps
        )
        found = {row: self.entities(windows) for row, windows in gathered.items()}
        return Annotation(column(texts, found), failures, tokens, slots)

    def tokenise(self, rows: list[Row]) -> list[tuple[Row, Sequence]]:
        """Rows -> their windows."""
        window = self.options.long_text == "window"
        encoded = self.model.tokenizer(
            [row.text for row in rows],
            truncation=True,
            max_length=self.model.max_length,
            return_attention_mask=False,
            return_token_type_ids=False,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            **({"return_overflowing_tokens": True, "stride": self.stride} if window else {}),
        )
        source = encoded["overflow_to_sample_mapping"] if window else range(len(rows))
        columns = zip(
            source, encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
        )
        return [(rows[i], self.sequence(rows[i].text, *window)) for i, *window in columns]

    def sequence(self, text: str, ids: list[int], offsets: list[tuple[int, int]], special: list[int]) -> Sequence:
        """One window with the places of its tokens."""
        kept = np.flatnonzero(np.array(special) == 0)
        places = np.array(offsets, dtype=np.int32).reshape(-1, 2)[kept]
        starts, ends = places[:, 0], places[:, 1]
        if self.options.aggregation == "simple":
            subword = np.zeros(len(kept), dtype=bool)
        else:
            subword = self.continues_word(text, np.array(ids)[kept], starts, ends)
        return Sequence(ids, kept, starts, ends, subword)

    def continues_word(self, text: str, ids: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Whether each token continues the word of the one before; an unknown token never does."""
        if self.marks_subwords:
            subword = self.token_length[ids] != ends - starts
        else:
            subword = np.array([start > 0 and " " not in text[start - 1 : start + 1] for start in starts], dtype=bool)
        unknown = self.model.tokenizer.unk_token_id
        return subword if unknown is None else subword & (ids != unknown)

    def forward(self, sequences: list[Sequence]) -> torch.Tensor:
        """Logits `(batch, seq, labels)`."""
        return logits(self.model, [s.ids for s in sequences])

    def entities(self, windows: list[tuple[Sequence, np.ndarray]]) -> list[Span]:
        """The entities of one text from all its windows."""
        found: list[Span] = []
        for sequence, raw in windows:
            shifted = np.exp(raw - raw.max(axis=-1, keepdims=True))
            scores = (shifted / shifted.sum(axis=-1, keepdims=True))[sequence.kept]
            found += spans(
                scores, sequence.starts, sequence.ends, sequence.subword, self.scheme, self.options.aggregation
            )
        return found if len(windows) == 1 else merge_windows(found)


def column(texts: pa.Array, found: dict[int, list[Span]]) -> pa.Array:
    """Spans by row -> the Arrow column; rows without an entry are null."""
    rows = [found.get(row) for row in range(len(texts))]
    flat = [span for row in rows for span in row or ()]
    named = ((texts[row].as_py(), spans_) for row, spans_ in enumerate(rows) if spans_)
    pieces = [text[span.start : span.end] for text, spans_ in named for span in spans_]
    values = [
        pa.array([span.label for span in flat], pa.string()),
        pa.array(pieces, pa.string()),
        pa.array([span.start for span in flat], pa.int32()),
        pa.array([span.end for span in flat], pa.int32()),
        pa.array([span.score for span in flat], pa.float32()),
    ]
    offsets = np.concatenate([[0], np.cumsum([len(row or ()) for row in rows])]).astype(np.int32)
    missing = pa.array([row is None for row in rows], pa.bool_())
    entities = pa.StructArray.from_arrays(values, fields=list(ENTITY))
    return pa.ListArray.from_arrays(pa.array(offsets), entities, type=pa.list_(ENTITY), mask=missing)


def load(options: Options, model: Model, max_tokens: int | None = None) -> EntityRecogniser:
    """The task on a loaded model."""
    return EntityRecogniser(options, model, max_tokens)
