"""The virtual tokens of an adapter, as a network that writes text uses them: computed once, then part of every batch.

A decoder-only network sees virtual tokens only through their keys and values, whether they are trained themselves
(prefix tuning) or follow from trained embeddings (prompt tuning, p-tuning): causal attention makes them independent of
what comes after. So they are the first columns of every row's cache, computed once. In an encoder-decoder trained
embeddings are put before the source, and trained keys and values into the decoder's own cache. The texts are those of
PEFT's `generate()` for one row at a time, without its limits on batches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache, EncoderDecoderCache

from transforms import device, virtual_tokens
from transforms.errors import ModelError

Layer = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class SoftPrompt:
    """Virtual tokens before every row.

    Attributes:
        columns: number of columns that they take in the decoder's cache; 0 if they are before the source.
        layers: keys and values `(heads, columns, head size)` of each decoder layer, on that layer's device.
        embeddings: `(virtual tokens, hidden)`, put before an encoder's source; None if there are none.
        embed: the layer that embeds the tokens of a source; None without `embeddings`.
    """

    columns: int = 0
    layers: tuple[Layer, ...] = ()
    embeddings: torch.Tensor | None = None
    embed: Any = None

    def cache(self, rows: int) -> DynamicCache:
        """A decoder's cache that contains the virtual tokens of some rows, and nothing else."""
        return DynamicCache([tuple(part.expand(rows, -1, -1, -1) for part in layer) for layer in self.layers])

    def decoder_cache(self, rows: int) -> EncoderDecoderCache:
        """The same for an encoder-decoder, whose sources are not computed yet."""
        return EncoderDecoderCache(self.cache(rows), DynamicCache())

    def ahead(self, mask: torch.Tensor) -> torch.Tensor:
        """An attention mask `(rows, seq)` with the columns of the virtual tokens before those of the rows."""
        return torch.cat([mask.new_ones(len(mask), self.columns), mask], dim=1)

    def encode(self, network: Any, ids: torch.Tensor, mask: torch.Tensor) -> tuple[Any, torch.Tensor]:
        """Run an encoder-decoder's encoder; returns its output, and the mask of its positions.

        Args:
            network: the encoder-decoder.
            ids: tokens of the sources, `(rows, seq)`.
            mask: 1 for tokens, 0 for padding, `(rows, seq)`.
        """
        encoder = network.get_encoder()
        if self.embeddings is None:
            return encoder(input_ids=ids, attention_mask=mask, return_dict=True), mask
        embedded = self.embed(ids)
        first = self.embeddings.to(embedded).expand(len(ids), -1, -1)
        mask = torch.cat([mask.new_ones(len(mask), first.shape[1]), mask], dim=1)
        embedded = torch.cat([first, embedded], dim=1)
        return encoder(inputs_embeds=embedded, attention_mask=mask, return_dict=True), mask

    @property
    def source_tokens(self) -> int:
        """Number of virtual tokens before each source."""
        return 0 if self.embeddings is None else len(self.embeddings)


NONE = SoftPrompt()


def of(laid: Any) -> SoftPrompt:
    """The virtual tokens of a PeftModel that writes text; `NONE` for a network without any.

    Args:
        laid: a PeftModel in eval mode, on its device and in its dtype.

    Raises:
        ModelError: the network gives other logits if its virtual tokens are computed first, such as one that keeps
            a state instead of keys and values.
    """
    count = virtual_tokens.count(laid)
    if not count:
        return NONE
    base = virtual_tokens.base_of(laid)
    with torch.inference_mode():
        prompt = laid.get_prompt(1)
        if not isinstance(prompt, torch.Tensor):
            own = prompt.self_attention_cache if isinstance(prompt, EncoderDecoderCache) else prompt
            found = SoftPrompt(count, _layers(own, base.dtype))
        elif base.config.is_encoder_decoder:
            return SoftPrompt(embeddings=prompt[0, :count], embed=laid.word_embeddings)
        else:
            embedded = prompt.to(laid.word_embeddings.weight)
            cache = base.base_model(inputs_embeds=embedded, past_key_values=DynamicCache(), use_cache=True)
            found = SoftPrompt(count, _layers(getattr(cache, "past_key_values", None), base.dtype))
        if not base.config.is_encoder_decoder:
            _check(laid, base, found)
    return found


def _layers(cache: Any, dtype: torch.dtype) -> tuple[Layer, ...]:
    layers = getattr(cache, "layers", ())
    return tuple((layer.keys[0].to(dtype), layer.values[0].to(dtype)) for layer in layers if layer.keys is not None)


def _check(laid: Any, base: Any, found: SoftPrompt) -> None:
    """Compare the logits of a short row with PEFT's."""
    ids = torch.arange(7, 13, device=device.of(base))[None] % base.config.get_text_config().vocab_size
    mask = torch.ones_like(ids)
    want = laid(input_ids=ids, attention_mask=mask).logits[:, -1].float()
    try:
        got = base(input_ids=ids, attention_mask=found.ahead(mask), past_key_values=found.cache(1)).logits[:, -1]
    except (TypeError, ValueError, RuntimeError, AttributeError, IndexError):
        got = torch.full_like(want, torch.nan)
    tolerance = 1e-3 if base.dtype == torch.float32 else 5e-2
    if not bool((got.float() - want).abs().max() <= tolerance * (want.max() - want.min())):
        raise ModelError(
            f"{type(base).__name__} cannot be given the keys and values of virtual tokens; use an adapter of a kind "
            "that can be merged, such as LORA"
        )
