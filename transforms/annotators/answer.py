"""Extractive question answering on a loaded model: see transforms/tasks/answer.py for its source and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from transforms import pairs
from transforms.annotate import Steps, Work, alone
from transforms.contract import Annotation
from transforms.errors import ModelError
from transforms.model import Model, forward
from transforms.softmax import softmax
from transforms.tasks.answer import ANSWER, Options


@dataclass(frozen=True)
class Item:
    """A row to annotate: its index in the batch, its context, its question."""

    index: int
    context: str
    question: str


@dataclass(frozen=True)
class Window:
    """The question and a part of the context as one sequence.

    Attributes:
        ids: token ids.
        type_ids: type ids.
        context: positions of the context's tokens.
        null: position of the CLS token; None if there is none.
        starts: first code point of each token of the context.
        ends: one past the last code point of each token.
        words: number of each token's word; -1 for a token outside of words.
    """

    ids: list[int]
    type_ids: list[int]
    context: slice
    null: int | None
    starts: np.ndarray
    ends: np.ndarray
    words: np.ndarray


@dataclass
class Answer:
    """A span of the context, or none, and its score."""

    score: float
    start: int | None = None
    end: int | None = None


class Answerer:
    """Contexts and questions in, answers out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        template = pairs.learn(model.tokenizer)
        if template is None:
            raise ModelError(
                "answer needs a fast tokenizer (tokenizer.json) that joins question and context by special tokens in "
                "fixed places; this model has none"
            )
        if options.null_threshold is not None and template.find(model.tokenizer.cls_token_id, 1, 1) is None:
            raise ModelError(
                "answer: null_threshold needs a tokenizer that puts a CLS token into each sequence (its score means no "
                "answer), and this one does not; remove null_threshold"
            )
        self.options = options
        self.model = model
        self.template = template
        self.window = min(options.window, model.max_length)
        # Models that pad on the left (XLNet) were trained on context before question.
        self.question_first = model.tokenizer.padding_side == "right"
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = model.caps()
        if options.question is not None:
            try:
                self.parts(len(pairs.bare(model.tokenizer, [options.question])["input_ids"][0]), 1)
            except ValueError as error:
                raise ModelError(f"answer: {error}") from error

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Answer the question of every row of a batch."""
        return alone(self.steps(batch), self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        items = self.items(batch)
        work = Work(items, self.tokenise, lambda window: len(window.ids), self.forward)
        gathered, failures, tokens, slots = yield work
        contexts = {item.index: item.context for item in items}
        found = {row: self.answers(contexts[row], windows) for row, windows in gathered.items()}
        return Annotation(self.column(contexts, found, len(batch)), failures, tokens, slots)

    def items(self, batch: pa.RecordBatch) -> list[Item]:
        """The rows of a batch that have a context and a question."""
        contexts = batch.column(self.options.column).to_pylist()
        if self.options.question_column is None:
            questions = [self.options.question] * len(contexts)
        else:
            questions = batch.column(self.options.question_column).to_pylist()
        rows = enumerate(zip(contexts, questions, strict=True))
        return [Item(i, context, question) for i, (context, question) in rows if context and question]

    def tokenise(self, items: list[Item]) -> list[tuple[Item, Window]]:
        """Rows -> their windows.

        Raises:
            ValueError: a question leaves no room for the context.
        """
        tokenizer = self.model.tokenizer
        unique = list(dict.fromkeys(item.question for item in items))
        questions = dict(zip(unique, pairs.bare(tokenizer, unique)["input_ids"], strict=True))
        encoded = pairs.bare(tokenizer, [item.context for item in items], return_offsets_mapping=True)
        windows = []
        for i, item in enumerate(items):
            places = np.array(encoded["offset_mapping"][i], dtype=np.int32).reshape(-1, 2)
            words = np.array([-1 if word is None else word for word in encoded.word_ids(i)], dtype=np.int32)
            question, context = questions[item.question], encoded["input_ids"][i]
            for part in self.parts(len(question), len(context)):
                windows.append((item, self.sequence(question, context[part], places[part], words[part])))
        return windows

    def parts(self, question: int, context: int) -> list[slice]:
        """The windows over a context, for the numbers of tokens of question and context."""
        room = self.window - self.template.special - question
        if room < 1:
            raise ValueError(
                f"the question has {question} tokens, which leaves no room for the context in a window of {self.window}"
            )
        step = room - min(self.options.stride, room // 2)
        return [slice(start, start + room) for start in range(0, max(1, context - room + step), step)]

    def sequence(self, question: list[int], context: list[int], places: np.ndarray, words: np.ndarray) -> Window:
        """One window, joined as the tokenizer joins a pair."""
        first, second = (question, context) if self.question_first else (context, question)
        ids, type_ids = self.template.ids(first, second), self.template.type_ids(len(first), len(second))
        start = len(self.template.before[0])
        if self.question_first:
            start += len(question) + len(self.template.between[0])
        null = self.template.find(self.model.tokenizer.cls_token_id, len(first), len(second))
        return Window(ids, type_ids, slice(start, start + len(context)), null, places[:, 0], places[:, 1], words)

    def forward(self, windows: list[Window]) -> torch.Tensor:
        """Start and end logits `(batch, seq, 2)`."""
        output: Any = forward(self.model, [w.ids for w in windows], [w.type_ids for w in windows])
        return torch.stack([output.start_logits, output.end_logits], dim=-1)

    def answers(self, context: str, windows: list[tuple[Window, np.ndarray]]) -> list[Answer]:
        """The best answers of one row from all its windows, best first."""
        k = self.options.top_k or 1
        merged: dict[str, Answer] = {}
        null_score = np.inf
        for window, raw in windows:
            start, end, null = probabilities(window, raw)
            null_score = min(null_score, null)
            # Extended to whole words, some spans become equal, so take more than top_k, as the pipeline did.
            for first, last, score in best_spans(start, end, self.options.max_answer_tokens, 2 * k + 10):
                begin, stop = trimmed(context, *whole_words(window, first, last))
                if begin < stop:
                    answer = merged.setdefault(context[begin:stop].lower(), Answer(0.0, begin, stop))
                    answer.score += score
        found = list(merged.values())
        threshold = self.options.null_threshold
        if threshold is not None:
            found.append(Answer(null_score))
        return sorted(found, key=lambda a: a.score - (threshold or 0) * (a.start is None), reverse=True)[:k]

    def column(self, contexts: dict[int, str], found: dict[int, list[Answer]], rows: int) -> pa.Array:
        """Answers by row -> the Arrow column."""
        values = {row: [self.value(contexts[row], answer) for answer in answers] for row, answers in found.items()}
        if self.options.top_k is None:
            return pa.array([next(iter(values.get(row, ())), None) for row in range(rows)], ANSWER)
        return pa.array([values.get(row) for row in range(rows)], pa.list_(ANSWER))

    def value(self, context: str, answer: Answer) -> dict[str, Any]:
        """An answer as a value of the column."""
        text = None if answer.start is None else context[answer.start : answer.end]
        return {"text": text, "score": answer.score, "start": answer.start, "end": answer.end}


def probabilities(window: Window, raw: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Logits `(seq, 2)` -> start and end probabilities of each token of the context, and the probability of no answer.

    The softmax is over the tokens of the context and the CLS token only.
    """
    context = raw[window.context]
    allowed = context if window.null is None else np.vstack([context, raw[window.null]])
    if not len(allowed):
        return context[:, 0], context[:, 1], 0.0
    scores = softmax(allowed, axis=0)
    null = 0.0 if window.null is None else float(scores[-1].prod())
    return scores[: len(context), 0], scores[: len(context), 1], null


def best_spans(start: np.ndarray, end: np.ndarray, longest: int, k: int) -> list[tuple[int, int, float]]:
    """The k best spans of at most `longest` tokens: first token, last token, product of the probabilities."""
    tokens, width = len(start), min(longest, len(start))
    if not tokens:
        return []
    ends = np.concatenate([end, np.zeros(width - 1, end.dtype)])
    scores = start[:, None] * np.lib.stride_tricks.sliding_window_view(ends, width)
    scores[np.arange(tokens)[:, None] + np.arange(width) >= tokens] = -1
    flat = scores.ravel()
    k = min(k, len(flat))
    best = np.argpartition(-flat, k - 1)[:k]
    best = best[np.argsort(-flat[best], kind="stable")]
    return [(int(i // width), int(i // width + i % width), float(flat[i])) for i in best if flat[i] >= 0]


def whole_words(window: Window, first: int, last: int) -> tuple[int, int]:
    """Code points of a span of tokens, extended to whole words within the window."""
    if window.words[first] >= 0 and window.words[last] >= 0:
        first = np.flatnonzero(window.words == window.words[first])[0]
        last = np.flatnonzero(window.words == window.words[last])[-1]
    return int(window.starts[first]), int(window.ends[last])


def trimmed(context: str, begin: int, stop: int) -> tuple[int, int]:
    """The code points without surrounding white space: SentencePiece tokens begin with the space before a word."""
    piece = context[begin:stop]
    begin += len(piece) - len(piece.lstrip())
    return begin, begin + len(piece.strip())
