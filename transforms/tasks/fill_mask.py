"""Fill-mask: the most likely tokens for each mask of a text.

Source: the AutoModelForMaskedLM heads of transformers; tokens, scores and filled texts are what its fill-mask pipeline
gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from transforms import heads
from transforms.options import column_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.fill_mask import MaskFiller
    from transforms.model import Model

ARCHITECTURE = "AutoModelForMaskedLM"
VERSION = 2

FILL = pa.struct([("mask", pa.int32()), ("token", pa.string()), ("score", pa.float32()), ("text", pa.string())])


@dataclass(frozen=True)
class Options:
    """The options of `fill_mask` in a job file.

    Attributes:
        column: text column (string).
        top_k: number of tokens for each mask, best first.
        mask: a placeholder in the texts for the mask token, such as `___`; the model's own mask token ([MASK] or
            <mask>) always works.
        targets: the words to choose from, each of which is one token of the model; by default all tokens.
        strict: reject a text without a mask; by default it gives null.
    """

    column: str = column_field("text column")
    top_k: int = 5
    mask: str | None = None
    targets: list[str] | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if self.top_k < 1:
            raise ValueError(f"top_k is {self.top_k}; give a number of tokens from 1")
        if self.mask is not None and not self.mask.strip():
            raise ValueError(f"mask is {self.mask!r}; give a placeholder that texts have, such as ___")
        if self.targets is not None and not self.targets:
            raise ValueError("targets is []; give at least one word, or remove the key for the whole vocabulary")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without a masked-language-model head."""
    heads.require(config, "ForMaskedLM", "fill_mask")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """list<struct<mask: int32, token: string, score: float32, text: string>>, ordered by mask and then best first.

    `mask` counts the masks of the text from 0; `text` is the text with that mask filled, as the tokenizer decodes it;
    other masks remain in it. Null where the text is null or empty or has no mask.
    """
    return pa.list_(FILL)


def load(options: Options, model: Model, max_tokens: int | None = None) -> MaskFiller:
    """The task on a loaded model."""
    from transforms.annotators.fill_mask import MaskFiller

    return MaskFiller(options, model, max_tokens)
