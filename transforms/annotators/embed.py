"""Sentence embeddings on a loaded model: see transforms/tasks/embed.py for its source and options."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import nn
from transformers import AutoModel, AutoModelForTextEncoding, PretrainedConfig, PreTrainedModel

from transforms.annotate import Row, Steps, alone, cut_at, of_texts
from transforms.contract import Annotation
from transforms.dense import Dense
from transforms.engines.encoder import keep_first_token
from transforms.errors import ModelError
from transforms.frame import frame
from transforms.model import Model, forward
from transforms.tasks.embed import Options, check, layout_of, output_type, pooling_of
from transforms.tokens import cut_ids, token_ids


@dataclass(frozen=True)
class Sequence:
    """Token ids of one window, and whether they are all that is left of a longer text."""

    ids: list[int]
    is_cut: bool = False


class TextEncoder:
    """Loads the body of a model without a head; for an encoder-decoder, the encoder."""

    # Masked-language-model weights have no pooler, and the vectors here do not need one.
    UNREAD = ("pooler.",)

    @staticmethod
    def _auto(config: PretrainedConfig) -> Any:
        # If only the encoder of a T5 model was saved, its configuration has is_encoder_decoder: false.
        alone = any(name.endswith("EncoderModel") for name in config.architectures or ())
        return AutoModelForTextEncoding if config.is_encoder_decoder or alone else AutoModel

    @staticmethod
    def from_config(config: PretrainedConfig, **how: Any) -> Any:
        """The same network with random weights."""
        return TextEncoder._auto(config).from_config(config, **how)

    @staticmethod
    def from_pretrained(path: str, *, config: PretrainedConfig, **how: Any) -> tuple[PreTrainedModel, dict[str, Any]]:
        """The network from AutoModel, and its loading report."""
        network, report = TextEncoder._auto(config).from_pretrained(path, config=config, **how)
        report["missing_keys"] = [key for key in report["missing_keys"] if not key.startswith(TextEncoder.UNREAD)]
        return network, report


def pool(hidden: torch.Tensor, lengths: torch.Tensor, how: str, skip: int = 0) -> torch.Tensor:
    """Combine the vectors of the tokens into one.

    Args:
        hidden: `(batch, seq, hidden)`, padded on the right.
        lengths: int64 `(batch,)`, tokens of each sequence.
        how: mean, cls or last.
        skip: tokens at the start that are left out.

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
        layout = layout_of(model.config)
        self.options = options
        self.model = model
        self.type = output_type(options, model.config)
        self.pooling = pooling_of(options, layout)
        self.normalize = layout.normalize if options.normalize is None else options.normalize
        self.dense = nn.Sequential(*map(Dense, layout.dense)).to(model.device).eval()
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
        if self.pooling == "cls" and not self.skip and model.padding != "left":
            keep_first_token(model.network, model.compute)
        self.max_tokens = max_tokens or model.max_tokens
        self.caps = model.caps()
        # No key-value cache: a decoder would fill one that is never read.
        model.network.config.use_cache = False

    def __call__(self, batch: pa.RecordBatch) -> Annotation:
        """Embed the rows of a batch."""
        return alone(self.steps(batch), self.max_tokens, self.caps)

    def steps(self, batch: pa.RecordBatch) -> Steps:
        """The same in steps."""
        texts = batch.column(self.options.column)
        work = of_texts(texts, self.tokenise, lambda s: len(s.ids), self.forward)
        gathered, failures, tokens, slots = yield from work
        vectors = np.zeros((len(texts), self.type.list_size), dtype=np.float32)
        missing = np.ones(len(texts), dtype=bool)
        for row, windows in gathered.items():
            missing[row] = False
            vectors[row] = _average(windows)[: self.type.list_size]
        if self.normalize:
            vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        values = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), type=self.type, mask=pa.array(missing))
        return Annotation(values, failures, tokens, slots, cut_at=cut_at(gathered, len(texts), self.max_length))

    def tokenise(self, rows: list[Row]) -> list[tuple[Row, Sequence]]:
        """Rows -> token ids of their windows; one each unless `long_text: window`."""
        texts = [self.prompt + (row.text.lower() if self.lowercase else row.text) for row in rows]
        if self.options.long_text == "truncate":
            every = cut_ids(self.model.tokenizer, texts, self.max_length)
            return [(row, Sequence(ids, is_cut)) for row, (ids, is_cut) in zip(rows, every, strict=True)]
        encoded = token_ids(self.model.tokenizer, texts, None)
        return [(row, Sequence(ids)) for row, whole in zip(rows, encoded, strict=True) for ids in self.windows(whole)]

    def windows(self, ids: list[int]) -> list[list[int]]:
        """A sequence as windows, each between the same first and last tokens: special ones and the prompt."""
        if len(ids) <= self.max_length:
            return [ids]
        end = len(ids) - self.tail
        width = self.max_length - self.head - self.tail
        starts = range(self.head, end, width)
        return [ids[: self.head] + ids[start : min(start + width, end)] + ids[end:] for start in starts]

    def forward(self, sequences: list[Sequence]) -> torch.Tensor:
        """Vectors `(batch, width)`, the only data copied from the device."""
        hidden = forward(self.model, [s.ids for s in sequences]).last_hidden_state
        lengths = torch.tensor([len(s.ids) for s in sequences], device=hidden.device)
        with torch.inference_mode():
            return self.dense(pool(hidden, lengths, self.pooling, self.skip))


def _average(windows: list[tuple[Sequence, np.ndarray]]) -> np.ndarray:
    """Mean of the windows' vectors, weighted by their tokens."""
    if len(windows) == 1:
        return windows[0][1]
    return np.average([vector for _, vector in windows], axis=0, weights=[len(s.ids) for s, _ in windows])
