"""Summarisation: a shorter text for each text.

Source: the encoder-decoders of transformers (BART, T5, Pegasus, LED, ...) and its causal models through their chat
template; the tokens are those of `model.generate()` one row at a time. Texts longer than the window are summarised
window by window, and the summaries are summarised again (map-reduce).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from transforms import heads
from transforms.options import column_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.summarize import Summarizer
    from transforms.model import Model

ARCHITECTURE = "transforms.generation.writer:AutoWriter"
VERSION = 1


@dataclass(frozen=True)
class Options:
    """The options of `summarize` in a job file.

    Attributes:
        column: text column (string).
        max_new_tokens: maximum number of tokens of a summary; by default the value in the model's own configuration, or
            128 if it has none.
        min_new_tokens: minimum number of tokens of a summary; by default the value in the model's own configuration.
        num_beams: number of beams; 1 is greedy search, which is several times as fast as four beams.
        length_penalty: with several beams, a number above 0 favours long summaries; by default the value in the model's
            own configuration.
        no_repeat_ngram_size: no sequence of this many tokens appears twice; by default the value in the
            model's own configuration.
        prefix: text to put before each text ("summarize: "), or the instruction to a causal model; by default the one
            in the model's own configuration.
        long_text: what happens to a text that is longer than the model's window: map_reduce summarises each of its
            windows and then the joined summaries, truncate cuts it.
    """

    column: str = column_field("text column")
    max_new_tokens: int | None = None
    min_new_tokens: int | None = None
    num_beams: int = 1
    length_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    prefix: str | None = None
    long_text: Literal["map_reduce", "truncate"] = "map_reduce"

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "num_beams"):
            if (value := getattr(self, name)) is not None and value < 1:
                raise ValueError(f"{name} is {value}; give a number from 1")
        least, most = self.min_new_tokens, self.max_new_tokens
        if least is not None and most is not None and least > most:
            raise ValueError(
                f"min_new_tokens is {self.min_new_tokens}, more than max_new_tokens, {self.max_new_tokens}; give a "
                "smaller number"
            )


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model that cannot generate text."""
    heads.require_language_head(config, "summarize")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """string; null where the text is null or empty."""
    return pa.string()


def load(options: Options, model: Model, max_tokens: int | None = None) -> Summarizer:
    """The task on a loaded model."""
    from transforms.annotators.summarize import Summarizer

    return Summarizer(options, model, max_tokens)
