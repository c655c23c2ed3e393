"""Sentence embeddings: one vector for each text.

Source: Reimers and Gurevych, Sentence-BERT, 2019 (https://arxiv.org/abs/1908.10084); vectors are what
sentence-transformers' encode gives for the same folder. Narrower vectors: Kusupati et al., Matryoshka Representation
Learning, 2022 (https://arxiv.org/abs/2205.13147).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from transforms import sentence
from transforms.errors import ModelError
from transforms.options import column_field

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from transforms.annotators.embed import Embedder
    from transforms.model import Model

ARCHITECTURE = "transforms.annotators.embed:TextEncoder"
VERSION = 1


@dataclass(frozen=True)
class Options:
    """The options of `embed` in a job file.

    Attributes:
        column: text column (string).
        pooling: how the vectors of the tokens become one: their mean, the first one (cls) or the last one; auto follows
            the model's sentence-transformers folder, and is mean for other models.
        normalize: scale every vector to length 1; by default as in the model's sentence-transformers folder, false for
            other models.
        dimensions: how many values of each vector to keep, from the first, for models trained for that (Matryoshka);
            by default all.
        prompt: text to put before every text, such as `query: `; by default the default prompt in the model's folder,
            if there is one.
        prompt_name: name of one of the prompts in the model's folder, to use instead of `prompt`.
        long_text: what happens to a text that is longer than the model's window: truncate cuts it, window embeds it
            window by window, each with the prompt, and averages the vectors, weighted by their tokens.
    """

    column: str = column_field("text column")
    pooling: Literal["auto", "mean", "cls", "last"] = "auto"
    normalize: bool | None = None
    dimensions: int | None = None
    prompt: str | None = None
    prompt_name: str | None = None
    long_text: Literal["truncate", "window"] = "truncate"

    def __post_init__(self) -> None:
        if self.dimensions is not None and self.dimensions < 1:
            raise ValueError(f"dimensions is {self.dimensions}; give a width from 1")
        if self.prompt is not None and self.prompt_name is not None:
            raise ValueError("prompt and prompt_name are both given; give the prefix itself or its name")


def check(options: Options, config: PretrainedConfig | None) -> None:
    """Refuse a model without an encoder, and options that its folder cannot meet."""
    assert config is not None
    from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

    if config.is_encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        raise ModelError(
            f"embed needs an encoder, and {config.model_type} is an encoder-decoder whose encoder does not load alone; "
            "choose an embedding model"
        )
    layout = layout_of(config)
    pooling_of(options, layout)
    if options.prompt_name is not None and options.prompt_name not in layout.prompts:
        raise ModelError(
            f"prompt_name {options.prompt_name!r} is not a prompt of this model; "
            f"prompts: {', '.join(layout.prompts) or 'none'}; or give the text itself as prompt"
        )
    if options.dimensions is not None and options.dimensions > (width := full_width(config, layout)):
        raise ModelError(
            f"dimensions is {options.dimensions}, and this model gives {width}; give a number up to {width}"
        )


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """fixed_size_list<float32>[width]: the model's width, or `dimensions`."""
    assert config is not None
    return pa.list_(pa.float32(), options.dimensions or full_width(config, layout_of(config)))


def layout_of(config: PretrainedConfig) -> sentence.Layout:
    """The sentence-transformers files of the folder that a configuration was read from."""
    return sentence.read(str(config.name_or_path))


def full_width(config: PretrainedConfig, layout: sentence.Layout) -> int:
    """Length of a vector before `dimensions` cuts it."""
    return layout.width or int(config.get_text_config(decoder=False).hidden_size)


def pooling_of(options: Options, layout: sentence.Layout) -> str:
    """How the tokens' vectors become one: mean, cls or last.

    Raises:
        ModelError: the folder names a pooling that embed does not support.
    """
    if options.pooling != "auto":
        return options.pooling
    if (pooling := layout.pooling or "mean") not in sentence.POOLINGS:
        raise ModelError(
            f"this model pools by {pooling}, and embed by {', '.join(sentence.POOLINGS)}; choose another model, or set "
            "pooling: mean, cls or last if you know that it suits the model"
        )
    return sentence.POOLINGS[pooling]


def load(options: Options, model: Model, max_tokens: int | None = None) -> Embedder:
    """The task on a loaded model."""
    from transforms.annotators.embed import Embedder

    return Embedder(options, model, max_tokens)
