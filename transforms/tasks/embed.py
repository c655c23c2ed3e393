"""Sentence embeddings: one vector for each text.

Source: Reimers and Gurevych, Sentence-BERT, 2019 (https://arxiv.org/abs/1908.10084); vectors are what
sentence-transformers' encode gives for the same folder. Narrower vectors: Kusupati et al., Matryoshka Representation
Learning, 2022 (https://arxiv.org/abs/2205.13147).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import AutoModel, AutoModelForTextEncoding, PretrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_TEXT_ENCODING_MAPPING

from transforms import sentence
from transforms.batches import Caps
from transforms.errors import ModelError
from transforms.frame import frame
from transforms.model import Model, forward
from transforms.task import Annotation, Row, annotate_texts, column_field
from transforms.tokens import token_ids


class TextEncoder:
    """The body of a model without any head; of an encoder-decoder, the encoder."""

    @staticmethod
    def from_pretrained(path: str, *, config: PretrainedConfig, **how: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
        """What AutoModel gives, and its loading report."""
        auto = AutoModelForTextEncoding if config.is_encoder_decoder else AutoModel
        network, report = auto.from_pretrained(path, config=config, **how)
        # Masked-language-model weights have no pooler, and no vector here comes from one.
        report["missing_keys"] = [key for key in report["missing_keys"] if not key.startswith("pooler.")]
        return network, report


ARCHITECTURE = TextEncoder
VERSION = 1


@dataclass(frozen=True)
class Options:
    """What a job file may say about `embed`.

    Attributes:
        column: text column (string).
        pooling: how the vectors of the tokens become one: their mean, the first or the last of them; auto is what a
            sentence-transformers folder says, and the mean elsewhere.
        normalize: make every vector one long; by default what a sentence-transformers folder says, and no elsewhere.
        dimensions: keep that many numbers from the left, for models trained so (Matryoshka); cut before normalising.
        prompt: prefix of every text, such as `query: `; by default the folder's default prompt, if it has one.
        prompt_name: one of the folder's own prompts, by name.
        long_text: what happens to a text past the model's window: cut it off, or embed it window by window and average
            the vectors by their tokens. Every window gets the prompt.
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
    if config.is_encoder_decoder and type(config) not in MODEL_FOR_TEXT_ENCODING_MAPPING:
        raise ModelError(
            f"embed needs an encoder, and {config.model_type} is an encoder-decoder whose encoder does not load alone; "
            "choose an embedding model"
        )
    layout = _layout(config)
    _pooling(options, layout)
    if options.prompt_name is not None and options.prompt_name not in layout.prompts:
        raise ModelError(
            f"prompt_name {options.prompt_name!r} is not a prompt of this model; "
            f"prompts: {', '.join(layout.prompts) or 'none'}; or give the text itself as prompt"
        )
    if options.dimensions is not None and options.dimensions > (width := _full_width(config, layout)):
        raise ModelError(f"dimensions is {options.dimensions}, and this model gives {width}; give at most that")


def output_type(options: Options, config: PretrainedConfig | None) -> pa.DataType:
    """fixed_size_list<float32>[width]: the model's width, or `dimensions`."""
    assert config is not None
    return pa.list_(pa.float32(), options.dimensions or _full_width(config, _layout(config)))


def _layout(config: PretrainedConfig) -> sentence.Layout:
    """The sentence-transformers files of the folder that a configuration was read from."""
    return sentence.read(str(config.name_or_path))


def _full_width(config: PretrainedConfig, layout: sentence.Layout) -> int:
    return layout.width or int(config.get_text_config(decoder=False).hidden_size)


def _pooling(options: Options, layout: sentence.Layout) -> str:
    if options.pooling != "auto":
        return options.pooling
    if (pooling := layout.pooling or "mean") not in sentence.POOLINGS:
        raise ModelError(
            f"this model pools by {pooling}, and embed by {', '.join(sentence.POOLINGS)}; choose another model, or say "
            "pooling: mean, cls or last if you know that it suits the model"
        )
    return sentence.POOLINGS[pooling]


def pool(hidden: torch.Tensor, lengths: torch.Tensor, how: str, skip: int = 0) -> torch.Tensor:
    """The vectors of the tokens as one.

    Args:
        hidden: `(batch, seq, hidden)`, padded on the right.
        lengths: int64 `(batch,)`, tokens of each sequence.
        how: mean, cls or last.
        skip: tokens at the start that do not count.

    Returns:
        float32 `(batch, hidden)` on the same device.
    """
    if how == "cls":
        return hidden[:, skip].float()
    if how == "last":
        return hidden[torch.arange(len(hidden), device=hidden.device), lengths - 1].float()
    places = torch.arange(hidden.shape[1], device=hidden.device)
    counts = (places >= skip) & (places < lengths[:, None])
    total = (hidden * counts.unsqueeze(-1)).sum(dim=1, dtype=torch.float32)
    return total / counts.sum(dim=1, keepdim=True)


class Embedder:
    """Texts in, vectors out."""

    def __init__(self, options: Options, model: Model, max_tokens: int | None):
        check(options, model.config)
        layout = _layout(model.config)
        self.options = options
        self.model = model
        self.type = output_type(options, model.config)
        self.pooling = _pooling(options, layout)
        self.normalize = layout.normalize if options.normalize is None else options.normalize
        self.dense = nn.Sequential(*map(sentence.Dense, layout.dense)).to(model.device).eval()
        self.lowercase = layout.lowercase
        self.prompt = layout.prompt if options.prompt is None else options.prompt
        if options.prompt_name is not None:
            self.prompt = layout.prompts[options.prompt_name]
        if self.lowercase:
            self.prompt = self.prompt.lower()
        self.max_length = min(model.max_length, layout.max_length or model.max_length)
        self.head, self.tail = frame(model.tokenizer, self.prompt)
        if self.max_length <= self.head + self.tail:
            raise ModelError(f"the prompt {self.prompt[:40]!r} leaves no room in {self.max_length} tokens; shorten it")
        self.skip = self.head if self.prompt and not layout.pools_prompt else 0
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = Caps()
        # A decoder would keep keys and values that nothing reads again.
        model.network.config.use_cache = False

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Embed the rows of a batch."""
        texts = batch.column(self.options.column)
        gathered, failures, tokens, slots = annotate_texts(
            texts, self.tokenise, len, self.forward, self.max_tokens, self.caps
        )
        vectors = np.zeros((len(texts), self.type.list_size), dtype=np.float32)
        missing = np.ones(len(texts), dtype=bool)
        for row, windows in gathered.items():
            missing[row] = False
            vectors[row] = _average(windows)[: self.type.list_size]
        if self.normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=self.type, mask=pa.array(missing))
        return Annotation(values, failures, tokens, slots)

    def tokenise(self, rows: list[Row]) -> list[tuple[Row, list[int]]]:
        """Rows -> token ids of their windows; one each unless `long_text: window`."""
        texts = [self.prompt + (row.text.lower() if self.lowercase else row.text) for row in rows]
        window = self.options.long_text == "window"
        encoded = token_ids(self.model.tokenizer, texts, None if window else self.max_length)
        return [(row, ids) for row, whole in zip(rows, encoded, strict=True) for ids in self.windows(whole)]

    def windows(self, ids: list[int]) -> list[list[int]]:
        """A sequence as windows, each between the same first and last tokens: special ones and the prompt."""
        if len(ids) <= self.max_length:
            return [ids]
        end = len(ids) - self.tail
        width = self.max_length - self.head - self.tail
        starts = range(self.head, end, width)
        return [ids[: self.head] + ids[start : min(start + width, end)] + ids[end:] for start in starts]

    def forward(self, sequences: list[list[int]]) -> torch.Tensor:
        """Vectors `(batch, width)`: only they leave the device."""
        hidden = forward(self.model, sequences).last_hidden_state
        lengths = torch.tensor([len(ids) for ids in sequences], device=hidden.device)
        with torch.inference_mode():
            return self.dense(pool(hidden, lengths, self.pooling, self.skip))


def _average(windows: list[tuple[list[int], np.ndarray]]) -> np.ndarray:
    """Mean of the windows' vectors, weighted by their tokens."""
    if len(windows) == 1:
        return windows[0][1]
    return np.average([vector for _, vector in windows], axis=0, weights=[len(ids) for ids, _ in windows])


def load(options: Options, model: Model, max_tokens: int | None = None) -> Embedder:
    """The task on a loaded model."""
    return Embedder(options, model, max_tokens)
