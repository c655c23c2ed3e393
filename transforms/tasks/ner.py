"""Named entity recognition: labelled character spans of each text.

Source: the AutoModelForTokenClassification heads of transformers; spans and scores are those of its
token-classification pipeline with the same aggregation strategy (and, for long texts, the same stride). See
transforms/spans.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from transforms import heads
from transforms.options import column_field
from transforms.spans import Aggregation

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.ner import EntityRecogniser
    from transforms.model import Model

ARCHITECTURE = "AutoModelForTokenClassification"
VERSION = 2

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
    """The options of `ner` in a job file.

    Attributes:
        column: text column (string).
        aggregation: how tokens become entities: simple labels each token separately; first, average and max give each
            word one label, that of its first token, of the mean of its tokens, or of its token with the highest score.
        long_text: what happens to a text that is longer than the model's window: window reads it in windows that share
            `stride` tokens, truncate cuts it.
        stride: number of tokens that two neighbouring windows share.
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
    heads.require(config, "ForTokenClassification", "ner")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """list<struct<label: string, text: string, start: int32, end: int32, score: float32>>.

    Offsets count Unicode code points of the original string; `text` is the string between them, without white space
    around it.
    """
    return pa.list_(ENTITY)


def load(options: Options, model: Model, max_tokens: int | None = None) -> EntityRecogniser:
    """The task on a loaded model."""
    from transforms.annotators.ner import EntityRecogniser

    return EntityRecogniser(options, model, max_tokens)
