"""Forward passes of an encoder-decoder: encoding sources, and one decoding step of rows at different lengths."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer
from transformers.modeling_outputs import BaseModelOutput

from transforms.batches import padded
from transforms.generation import groups
from transforms.generation.columns import Prefilled
from transforms.generation.groups import Groups
from transforms.generation.head import Rough, head_of, logits_after
from transforms.model import Model

Logits = torch.Tensor | Rough

_fitting: weakref.WeakKeyDictionary[Any, bool] = weakref.WeakKeyDictionary()


class Stepper:
    """The forward passes of one model.

    Args:
        model: the model.
        rough: whether logits may be approximate.

    Attributes:
        longest: maximum tokens of a row in the decoder, including the start token.
    """

    def __init__(self, model: Model, rough: bool = False):
        self.model = model
        self.head = head_of(model.network) if rough else None
        self.network: Any = model.network
        self.pad = model.tokenizer.pad_token_id or 0
        # T5-like models have no maximum, because their positions are relative.
        self.positions: Any = getattr(self.network.get_decoder(), "embed_positions", None)
        self.table = None if self.positions is None else _table(self.positions)
        # One more, because the last token is not fed to the decoder.
        self.longest = 2**31 if self.table is None else len(self.table) + 1 - model.soft_prompt.columns

    def read(self, sources: Sequence[Sequence[int]], starts: Sequence[list[int]]) -> tuple[Prefilled, Logits]:
        """Encode sources and feed the decoder its first tokens.

        Args:
            sources: token ids of each source.
            starts: the decoder's first tokens, the same number for each row.

        Returns:
            The keys and values of the batch; the logits `(rows, vocabulary)` of each row's next token.
        """
        lengths = np.fromiter(map(len, sources), dtype=np.int64, count=len(sources))
        ids = torch.from_numpy(padded(sources, self.pad)).to(self.model.device)
        mask = torch.from_numpy((np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)).to(self.model.device)
        soft = self.model.soft_prompt
        encoded, mask = soft.encode(self.network, ids, mask)
        cache = EncoderDecoderCache(*(DynamicCache(config=self.model.config) for _ in range(2)))
        if soft.columns:
            cache = soft.decoder_cache(len(sources))
        forward = partial(
            self.network,
            encoder_outputs=encoded,
            attention_mask=mask,
            decoder_input_ids=torch.tensor(starts, device=self.model.device),
            past_key_values=cache,
            use_cache=True,
        )
        logits = logits_after(self.head, forward)
        own, cross = _layers(cache.self_attention_cache), _layers(cache.cross_attention_cache)
        return Prefilled(own, cross, lengths + soft.source_tokens), logits

    def step(self, flight: Groups, tokens: Sequence[int]) -> Logits:
        """Feed one token per row to the decoder; returns the logits `(rows, vocabulary)` of the next tokens."""
        # Not read, because the keys and values of the sources and all masks are in the cache.
        encoded = torch.zeros(1, dtype=self.network.dtype, device=self.model.device)
        encoded = encoded.expand(len(tokens), 1, self.model.config.hidden_size)
        seen = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=self.model.device)
        forward = partial(
            self.network,
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=seen,
            decoder_input_ids=torch.tensor(tokens, device=self.model.device)[:, None],
            decoder_attention_mask=seen,
            past_key_values=flight.open(self.network.dtype),
            use_cache=True,
        )
        with self._at(flight.positions()):
            logits = logits_after(self.head, forward)
        flight.close()
        return logits

    @contextmanager
    def _at(self, positions: np.ndarray) -> Iterator[None]:
        """Give each row the embedding of its own position; a decoder of transformers uses one position for all rows."""
        if self.table is None:
            yield
            return
        embedded = self.table[torch.from_numpy(positions[:, None]).to(self.table.device)]
        handle = self.positions.register_forward_hook(lambda *_: embedded)
        try:
            yield
        finally:
            handle.remove()


def _table(module: Any) -> torch.Tensor:
    """The position embeddings of a decoder from position 0 on, learned (BART) or sinusoidal (Marian, M2M100)."""
    if hasattr(module, "weights"):
        return module.weights[module.padding_idx + 1 :]
    return module.weight[getattr(module, "offset", 0) :]


def _layers(cache: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(layer.keys, layer.values) for layer in cache.layers]


def fits(model: Model) -> bool:
    """Whether rows at different lengths can share a batch of this model; tried once per model with three short rows.

    They cannot if the decoder ignores the mask of a single token (LED), keeps only a window of its cache, or computes
    positions in another way; nor if the attention is not transformers' sdpa. Such models are run by `generate()`.
    """
    if model.network not in _fitting:
        plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=model.config).layers)
        with torch.inference_mode():
            _fitting[model.network] = plain and groups.use(model.network) and _agrees(model)
    return _fitting[model.network]


def _agrees(model: Model) -> bool:
    """Add two rows to one that is two steps ahead, and compare the logits with those of each row alone."""
    low = min(8, model.config.vocab_size - 6)
    long, short, start = [low + i for i in (1, 3, 0, 2, 4)], [low + i for i in (2, 0, 1)], [low]
    new = [low + i for i in (3, 1, 2)]
    flight = Groups(2)
    try:
        stepper: Any = Stepper(model)
        flight.admit(stepper.read([long], [start])[0], [0], 3)
        for token in new[:2]:
            stepper.step(flight, [token])
        flight.admit(stepper.read([short], [start])[0], [0], 3)
        # There are at most two groups, so adding this row widens one of them.
        at = flight.admit(stepper.read([long], [start])[0], [0], 3)
        together = stepper.step(flight, [new[2]] * 3).float()
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
        # This decoder does not accept such a mask, position or cache.
        return False
    pairs = [(long, start + new), (short, start + new[2:])]
    pairs.insert(at, (long, start + new[2:]))
    wanted = torch.cat([stepper.read([source], [ids])[1] for source, ids in pairs]).float()
    tolerance = 1e-3 if model.network.dtype == torch.float32 else 5e-2
    return bool((together - wanted).norm() <= tolerance * (wanted - wanted.mean()).norm())
