"""Named entity recognition on a loaded model: see transforms/tasks/ner.py for its source and options."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain

import numpy as np
import pyarrow as pa
import torch

from transforms import decisions, heads
from transforms.annotate import Row, Steps, alone, cut_at, of_texts
from transforms.contract import Annotation
from transforms.errors import ModelError
from transforms.model import Model, logits
from transforms.softmax import softmax
from transforms.spans import Scheme, Spans, concatenate, merge_windows, spans
from transforms.tasks.ner import ENTITY, Options
from transforms.tokens import is_cut

# Tokens decoded together: enough that numpy's overhead per call is small, few enough to stay in the processor's cache.
GROUP_TOKENS = 16_384


@dataclass(frozen=True)
class Sequence:
    """One window: its token ids, and arrays with a property of each token, `(seq, ...)`.

    Attributes:
        ids: token ids.
        kept: whether a token is not special.
        places: first code point and one past the last.
        subword: whether a token continues the word of the one before.
        is_cut: whether it is all that is left of a longer text.
    """

    ids: list[int]
    kept: np.ndarray
    places: np.ndarray
    subword: np.ndarray
    is_cut: bool = False


class EntityRecogniser:
    """Texts in, entities out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        if not model.tokenizer.is_fast:
            raise ModelError("ner needs a fast tokenizer (tokenizer.json) for character offsets; this model has none")
        # The window must have more tokens than its overlap with the next one, special tokens not counted.
        room = model.max_length - model.tokenizer.num_special_tokens_to_add()
        self.stride = min(options.stride, room // 2)
        self.options = options
        self.model = model
        self.scheme = Scheme(heads.labels(model.config))
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = model.caps()
        # A WordPiece-like tokenizer marks continuations, so a token longer than its text continues a word.
        backend = model.tokenizer.backend_tokenizer.model
        self.marks_subwords = bool(getattr(backend, "continuing_subword_prefix", None))

    @cached_property
    def token_length(self) -> np.ndarray:
        """Code points of each token of the vocabulary, `##` included."""
        vocabulary = self.model.tokenizer.convert_ids_to_tokens(list(range(len(self.model.tokenizer))))
        return np.array([len(token or "") for token in vocabulary])

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Find the entities in the rows of a batch."""
        return alone(self.steps(batch), self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        texts = batch.column(self.options.column)
        work = of_texts(texts, self.tokenise, lambda s: len(s.ids), self.forward)
        gathered, failures, tokens, slots = yield from work
        # A text without a token is read by nobody, so nobody is sure of it.
        sure = np.full(len(texts), np.inf, dtype=np.float32)
        found = [self.entities(group, sure) for group in _groups(gathered)]
        sure[np.isinf(sure)] = 0.0
        sure[sorted(set(range(len(texts))) - gathered.keys())] = np.nan
        values = column(texts, gathered.keys(), found, self.scheme.names)
        cut = cut_at(gathered, len(texts), self.model.max_length)
        return Annotation(values, failures, tokens, slots, sure, cut_at=cut)

    def same(self, one: pa.Array, other: pa.Array) -> np.ndarray:
        """Whether two columns of the task have the same entities in each row, `(rows,)`."""
        return decisions.same(one, other, decisions.entities)

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
        owners = [rows[i] for i in source]
        all_ids = encoded["input_ids"]
        edges = np.cumsum([0, *map(len, all_ids)])
        kept = np.fromiter(chain.from_iterable(encoded["special_tokens_mask"]), np.int8, edges[-1]) == 0
        offsets = chain.from_iterable(chain.from_iterable(encoded["offset_mapping"]))
        places = np.fromiter(offsets, np.int32, 2 * edges[-1]).reshape(-1, 2)
        if self.options.aggregation == "simple":
            subword = np.zeros(len(kept), dtype=bool)
        else:
            subword = self.continues_word([row.text for row in owners], all_ids, edges, places)
        lost = [not window and is_cut(encoding, self.model.max_length) for encoding in encoded.encodings]
        cuts = zip(owners, all_ids, edges[:-1].tolist(), edges[1:].tolist(), lost, strict=True)
        return [(row, Sequence(ids, kept[i:j], places[i:j], subword[i:j], cut)) for row, ids, i, j, cut in cuts]

    def continues_word(
        self, texts: list[str], ids: list[list[int]], edges: np.ndarray, places: np.ndarray
    ) -> np.ndarray:
        """Whether each token continues the word of the one before; an unknown token never does.

        Args:
            texts: the text of each window.
            ids: token ids of each window.
            edges: where each window's tokens begin, and the number of all tokens.
            places: first code point of each token and one past the last `(tokens, 2)`.
        """
        flat = np.fromiter(chain.from_iterable(ids), np.int64, edges[-1])
        if self.marks_subwords:
            subword = self.token_length[flat] != places[:, 1] - places[:, 0]
        else:
            subword = _no_space_before(texts, np.diff(edges), places[:, 0])
        unknown = self.model.tokenizer.unk_token_id
        return subword if unknown is None else subword & (flat != unknown)

    def forward(self, sequences: list[Sequence]) -> torch.Tensor:
        """Logits `(batch, seq, labels)`."""
        return logits(self.model, [s.ids for s in sequences])

    def entities(self, windows: list[tuple[int, Sequence, np.ndarray]], sure: np.ndarray) -> Spans:
        """The entities of some texts from all their windows: (number of the text, window, logits), in order.

        Args:
            windows: the windows.
            sure: by number of the text; lowered to the least score of the best label of any of its tokens.
        """
        kept = np.concatenate([sequence.kept for _, sequence, _ in windows])
        raw = np.concatenate([raw for *_, raw in windows])[kept]
        places = np.concatenate([sequence.places for _, sequence, _ in windows])[kept]
        subword = np.concatenate([sequence.subword for _, sequence, _ in windows])[kept]
        window = np.repeat(np.arange(len(windows)), [len(sequence.ids) for _, sequence, _ in windows])[kept]
        scores = softmax(raw)
        found = spans(scores, window, places[:, 0], places[:, 1], subword, self.scheme, self.options.aggregation)
        text = np.array([text for text, *_ in windows])
        np.minimum.at(sure, text[window], scores.max(axis=1).astype(sure.dtype))
        several = np.bincount(text)[text[found.text]] > 1
        found = replace(found, text=text[found.text])
        return concatenate([found.take(~several), merge_windows(found.take(several))])


def _groups(gathered: dict[int, list[tuple[Sequence, np.ndarray]]]) -> Iterator[list[tuple[int, Sequence, np.ndarray]]]:
    """The windows of all texts in groups of about GROUP_TOKENS tokens, those of one text together."""
    group: list[tuple[int, Sequence, np.ndarray]] = []
    tokens = 0
    for text, windows in gathered.items():
        group += [(text, sequence, raw) for sequence, raw in windows]
        tokens += sum(len(sequence.ids) for sequence, _ in windows)
        if tokens >= GROUP_TOKENS:
            yield group
            group, tokens = [], 0
    if group:
        yield group


def _no_space_before(texts: list[str], tokens: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Whether there is text directly before a token: it is not first in its text, and no space is beside its start.

    Args:
        texts: the text of each window.
        tokens: how many tokens each window has.
        starts: first code point of each token, all windows end to end.
    """
    # One more code point after each text, for empty tokens at its end.
    whole = "".join(f"{text}." for text in texts).encode("utf-32-le", "surrogatepass")
    is_space = np.frombuffer(whole, np.uint32) == ord(" ")
    begins = np.cumsum([0, *(len(text) + 1 for text in texts)])[:-1]
    at = np.repeat(begins, tokens) + starts
    return (starts > 0) & ~is_space[at - 1] & ~is_space[at]


def trimmed(found: Spans, texts: list[str]) -> tuple[Spans, list[str]]:
    """The spans without surrounding white space, and their strings; spans of white space only are dropped.

    Many tokenizers begin a token with the space before its word.

    Args:
        found: spans, `text` being the place of their text in `texts`.
        texts: the texts that the spans belong to.
    """
    start, end = found.start.tolist(), found.end.tolist()
    pieces = [texts[i][first:last] for i, first, last in zip(found.text.tolist(), start, end, strict=True)]
    stripped = [piece.strip() for piece in pieces]
    if stripped == pieces and all(pieces):
        return found, pieces
    start = [first + len(piece) - len(piece.lstrip()) for first, piece in zip(start, pieces, strict=True)]
    end = [first + len(piece) for first, piece in zip(start, stripped, strict=True)]
    found = replace(found, start=np.array(start, found.start.dtype), end=np.array(end, found.end.dtype))
    return found.take(found.start < found.end), list(filter(None, stripped))


def column(texts: pa.Array, read: Collection[int], found: list[Spans], names: list[str]) -> pa.Array:
    """Spans -> the Arrow column.

    Args:
        texts: string-like.
        read: rows that have been read; the others are null.
        found: their spans, `text` being the row; those of a row together and in order.
        names: name of each label.
    """
    if not read:
        return pa.nulls(len(texts), pa.list_(ENTITY))
    whole = concatenate(found)
    whole, pieces = trimmed(whole.take(np.argsort(whole.text, kind="stable")), texts.to_pylist())
    values = [
        pa.array(names, pa.string()).take(pa.array(whole.label)),
        pa.array(pieces, pa.string()),
        pa.array(whole.start, pa.int32()),
        pa.array(whole.end, pa.int32()),
        pa.array(whole.score, pa.float32()),
    ]
    offsets = np.concatenate([[0], np.cumsum(np.bincount(whole.text, minlength=len(texts)))]).astype(np.int32)
    missing = np.ones(len(texts), dtype=bool)
    missing[list(read)] = False
    entities = pa.StructArray.from_arrays(values, fields=list(ENTITY))
    return pa.ListArray.from_arrays(pa.array(offsets), entities, type=pa.list_(ENTITY), mask=pa.array(missing))
