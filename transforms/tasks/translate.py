"""Translation: each text in another language.

Source: the translation models of transformers (Marian, M2M100, NLLB, mBART, T5); the tokens are those of
`model.generate()` one row at a time. Rows of several languages share batches. See transforms/generation/languages.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from transforms import heads
from transforms.errors import ModelError
from transforms.options import column_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.translate import Translator
    from transforms.model import Model

ARCHITECTURE = "AutoModelForSeq2SeqLM"
VERSION = 1

# Model types that need a target language for every text.
MULTILINGUAL = ("m2m_100", "nllb-moe")


@dataclass(frozen=True)
class Options:
    """The options of `translate` in a job file.

    Attributes:
        column: text column (string).
        source_language: the language of the texts, in the model's spelling (en, eng_Latn, en_XX, English).
        source_language_column: column with the language of each text (string).
        target_language: the language to translate into.
        target_language_column: column with the language to translate each text into (string).
        prefix: text to put before each text ("translate English to German: "), instead of the one for the languages.
        num_beams: number of beams; 1 is greedy search, which is several times as fast as four beams.
        max_new_tokens: maximum number of tokens of a translation; by default the value in the model's own
            configuration, or 512 if it has none.
        length_ratio: maximum number of tokens of a translation for each token of its source, plus 16. It stops a model
            that repeats itself, but also cuts a translation that needs more tokens; no limit by default.
        long_text: what happens to a text that is longer than the model's window: split translates it in pieces of whole
            sentences and joins them, truncate cuts it.
    """

    column: str = column_field("text column")
    source_language: str | None = None
    source_language_column: str | None = column_field("source language of each row", default=None)
    target_language: str | None = None
    target_language_column: str | None = column_field("target language of each row", default=None)
    prefix: str | None = None
    num_beams: int = 1
    max_new_tokens: int | None = None
    length_ratio: float | None = None
    long_text: Literal["split", "truncate"] = "split"

    def __post_init__(self) -> None:
        for side in ("source", "target"):
            if getattr(self, f"{side}_language") is not None and getattr(self, f"{side}_language_column") is not None:
                raise ValueError(f"give {side}_language or {side}_language_column, not both")
        for name in ("max_new_tokens", "num_beams"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; give a number from 1")
        if self.length_ratio is not None and self.length_ratio <= 0:
            raise ValueError(f"length_ratio is {self.length_ratio}; give a number above 0, such as 3")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model that is not an encoder-decoder, and missing languages that a model of its type needs."""
    heads.require_language_head(config, "translate", causal=False)
    if config is not None and config.model_type in MULTILINGUAL:
        for side in ("source", "target"):
            if getattr(options, f"{side}_language") is None and getattr(options, f"{side}_language_column") is None:
                raise ModelError(
                    f"{side}_language is missing; a {config.model_type} model translates between many languages, so "
                    f"give {side}_language, or {side}_language_column where rows differ"
                )


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """string; null where the text is null or empty."""
    return pa.string()


def load(options: Options, model: Model, max_tokens: int | None = None) -> Translator:
    """The task on a loaded model."""
    from transforms.annotators.translate import Translator

    return Translator(options, model, max_tokens)
