"""Extractive question answering: the piece of a text that answers a question.

Source: the AutoModelForQuestionAnswering heads of transformers; answers and scores are those of the question-answering
pipeline that transformers had up to version 4 (and has no more): in each window the start and end scores are softmaxed
over the context, the score of a span is the product of the two, a span is extended to whole words, and the scores of
spans with the same text are added. Different from that pipeline, an answer has no white space around it and is never
empty. "No answer" is scored as in SQuAD 2 (Rajpurkar et al. 2018, arXiv:1806.03822): the product of the start and end
scores of the CLS token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms import heads
from transforms.options import column_field, example_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.answer import Answerer
    from transforms.model import Model

ARCHITECTURE = "AutoModelForQuestionAnswering"
VERSION = 1

ANSWER = pa.struct([("text", pa.string()), ("score", pa.float32()), ("start", pa.int32()), ("end", pa.int32())])


@dataclass(frozen=True)
class Options:
    """The options of `answer` in a job file.

    Attributes:
        column: text column with the context that holds the answer (string).
        question: the question, the same for every row.
        question_column: text column with the question of each row (string).
        top_k: give a list of the k best answers; by default only the best answer, without a list.
        null_threshold: allow "no answer" as a result: it is given if its score exceeds that of the best answer by more
            than this number.
        max_answer_tokens: maximum number of tokens of an answer.
        window: number of tokens that are read at once, including the question; at most the model's window.
        stride: number of context tokens that two neighbouring windows share; at most half of the context tokens that
            fit into a window.
    """

    column: str = column_field("text column with the context")
    question: str | None = example_field("...")
    question_column: str | None = column_field("text column with the question of each row", default=None)
    top_k: int | None = None
    null_threshold: float | None = None
    max_answer_tokens: int = 15
    window: int = 384
    stride: int = 128

    def __post_init__(self) -> None:
        if (self.question is None) == (self.question_column is None):
            raise ValueError("give either question (one for all rows) or question_column, and not both")
        if self.question == "":
            raise ValueError("question is ''; write a question")
        for key, least in (("top_k", 1), ("max_answer_tokens", 1), ("window", 1), ("stride", 0)):
            if (value := getattr(self, key)) is not None and value < least:
                raise ValueError(f"{key} is {value}; give a number from {least}")
        if self.null_threshold is not None and not -1 <= self.null_threshold <= 1:
            raise ValueError(f"null_threshold is {self.null_threshold}; give a difference of scores from -1 to 1")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without a question answering head."""
    heads.require(config, "ForQuestionAnswering", "answer")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """struct<text: string, score: float32, start: int32, end: int32>; a list of them, best first, with `top_k`.

    Offsets count Unicode code points of the context; `text` is the string between them. If "no answer" is given, text,
    start and end are null and `score` is the score of "no answer".
    """
    return ANSWER if options.top_k is None else pa.list_(ANSWER)


def load(options: Options, model: Model, max_tokens: int | None = None) -> Answerer:
    """The task on a loaded model."""
    from transforms.annotators.answer import Answerer

    return Answerer(options, model, max_tokens)
