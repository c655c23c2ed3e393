"""The one generation loop: requests in, new tokens out, for encoder-decoders and decoder-only models alike.

The output equals that of `model.generate()` for one row at a time; the values in the model's generation_config.json
(start, end and forced tokens, suppressed tokens, lengths, penalties) apply where a field of `Decoding` is None.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import GenerationConfig, LogitsProcessor, PreTrainedModel

from transforms.batches import Caps, corner, cut, padded
from transforms.generation import causal, lanes, seq2seq, stepper
from transforms.generation.request import Request
from transforms.generation.settings import Decoding, complete, needs_own_tokens_only
from transforms.model import Model


@dataclass(frozen=True)
class Generation:
    """The result of one request.

    Attributes:
        ids: the new tokens, without the prefix and without the end token.
        finished: whether the model ended the text itself; False where max_new_tokens cut it.
    """

    ids: list[int]
    finished: bool


@dataclass(frozen=True)
class Generations:
    """The results of many requests.

    Attributes:
        outputs: one `Generation` per request, in input order; None if the request failed.
        failures: request index -> the exception that the request raised on its own.
        tokens: number of real tokens computed: source or prompt, and new tokens.
        padded_tokens: number of token positions computed, including padding and finished rows.
    """

    outputs: list[Generation | None]
    failures: dict[int, Exception]
    tokens: int
    padded_tokens: int


def decode(model: Model, requests: Sequence[Request], how: Decoding, max_tokens: int, caps: Caps) -> Generations:
    """Generate every request.

    Args:
        model: an encoder-decoder or a decoder-only model with a language head.
        requests: the texts to generate, all with at least one token of source or prompt.
        how: how to choose tokens.
        max_tokens: maximum token positions in a batch, including padding.
        caps: memory limits, kept by the caller from call to call.

    Returns:
        One `Generation` per request; a request that fails on its own is in `failures`.

    Raises:
        torch.AcceleratorError: the device is lost; no later batch could be computed on it.
    """
    outputs: list[Generation | None] = [None] * len(requests)
    failures: dict[int, Exception] = {}
    settings = complete(model, how)
    if how.num_beams == 1 and needs_own_tokens_only(settings):
        work: seq2seq.Work | causal.Work | None = None
        if model.config.is_encoder_decoder and stepper.fits(model):
            work = seq2seq.Work(model, requests, settings, max_tokens, caps)
        elif not model.config.is_encoder_decoder and lanes.fits(model.network):
            work = causal.Work(model, requests, settings, max_tokens, caps)
        if work is not None:
            work.run()
            outputs = [Generation(*work.finished[i]) if i in work.finished else None for i in range(len(requests))]
            return Generations(outputs, work.failures, work.tokens, work.padded_tokens)
    slots = 0
    # A seed applies to a whole call of generate(), so sampled rows are generated one by one.
    max_tokens = 1 if how.sample else max_tokens // how.num_beams
    # generate() has one length limit per batch, and beam search with another limit finds another text.
    limits = [request.max_new_tokens for request in requests]
    # Padding between virtual tokens and a prompt moves the virtual tokens out of an attention window.
    alike = model.soft_prompt.columns and lanes.has_window(model.config)
    for group in _groups([(n, len(request.ids) if alike else 0) for n, request in zip(limits, requests, strict=True)]):
        lengths = np.array([len(requests[i].ids) for i in group], dtype=np.int64)

        def compute(batch: np.ndarray, group: np.ndarray = group) -> list[Generation]:
            return _generate(model, [requests[i] for i in group[batch]], settings)

        for batch in cut(lengths, max(1, max_tokens), caps):
            local: dict[int, Exception] = {}
            for part, found in corner(batch, compute, lengths, caps, local):
                longest = max(len(generation.ids) for generation in found)
                slots += len(part) * (int(lengths[part].max()) + how.num_beams * (longest + 1))
                for position, generation in zip(group[part].tolist(), found, strict=True):
                    outputs[position] = generation
            failures |= {int(group[i]): error for i, error in local.items()}
    tokens = sum(len(requests[i].ids) + len(o.ids) + o.finished for i, o in enumerate(outputs) if o is not None)
    return Generations(outputs, failures, tokens, slots)


def _groups(keys: Sequence[tuple[int, int]]) -> Iterator[np.ndarray]:
    """Indices of equal keys, together; the greatest first."""
    indices: dict[tuple[int, int], list[int]] = {}
    for i, key in enumerate(keys):
        indices.setdefault(key, []).append(i)
    for _, members in sorted(indices.items(), reverse=True):
        yield np.array(members, dtype=np.int64)


class _Prefix(LogitsProcessor):
    """Force the first tokens of each row, like ForcedBOSTokenLogitsProcessor, which forces one token for all rows."""

    def __init__(self, prefixes: Sequence[tuple[int, ...]], start: int, num_beams: int):
        self.prefixes, self.start, self.num_beams = prefixes, start, num_beams

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        at = input_ids.shape[1] - self.start
        for row, prefix in enumerate(self.prefixes):
            if at < len(prefix):
                beams = slice(row * self.num_beams, (row + 1) * self.num_beams)
                scores[beams] = -torch.inf
                scores[beams, prefix[at]] = 0
        return scores


def _generate(model: Model, requests: list[Request], settings: GenerationConfig) -> list[Generation]:
    """One batch through `generate()`."""
    network: Any = model.network
    encoder_decoder = model.config.is_encoder_decoder
    pad = model.tokenizer.pad_token_id or 0
    ids = padded([request.ids for request in requests], pad)
    lengths = np.array([len(request.ids) for request in requests])
    mask = np.arange(ids.shape[1]) < lengths[:, None]
    if not encoder_decoder:
        ids = np.stack([np.roll(row, ids.shape[1] - n) for row, n in zip(ids, lengths, strict=True)])
        mask = mask[:, ::-1].copy()
    settings = copy.deepcopy(settings)
    settings.max_new_tokens = requests[0].max_new_tokens
    start = 1 if encoder_decoder else ids.shape[1]
    with (
        torch.inference_mode(),
        torch.random.fork_rng(enabled=bool(settings.do_sample)),
        _only(network, settings),
        model.rows([request.adapter for request in requests]),
    ):
        if settings.do_sample:
            torch.manual_seed(requests[0].seed)
        sequences = network.generate(
            **_inputs(model, torch.from_numpy(ids), torch.from_numpy(mask.astype(np.int64)), settings.num_beams or 1),
            generation_config=settings,
            logits_processor=[_Prefix([request.prefix for request in requests], start, settings.num_beams)],
            # generate() needs the tokenizer to find stop strings.
            tokenizer=model.tokenizer if settings.stop_strings else None,
        )
    ends = set(settings.eos_token_id or ())
    rows = sequences[:, start:].tolist()
    if settings.stop_strings:
        # generate() pads rows that ended with a stop string, like rows that ended with an end token.
        rows = [_unpadded(row, pad) for row in rows]
    return [_cut(row, ends, len(request.prefix)) for row, request in zip(rows, requests, strict=True)]


def _inputs(model: Model, ids: torch.Tensor, mask: torch.Tensor, beams: int) -> dict[str, Any]:
    """The arguments of `generate()` for a batch of prompts or sources, virtual tokens included."""
    ids, mask, soft = ids.to(model.device), mask.to(model.device), model.soft_prompt
    rows: dict[str, Any] = {"input_ids": ids, "attention_mask": mask}
    # generate() repeats the other tensors for each beam, but not a cache.
    if soft.columns and not model.config.is_encoder_decoder:
        # The mask is longer than the prompts, which tells generate() that the cache comes before them.
        return rows | {"attention_mask": soft.ahead(mask), "past_key_values": soft.cache(len(ids) * beams)}
    if soft.columns:
        return rows | {"past_key_values": soft.decoder_cache(len(ids) * beams)}
    if soft.embeddings is not None:
        encoded, mask = soft.encode(model.network, ids, mask)
        return rows | {"encoder_outputs": encoded, "attention_mask": mask}
    return rows


@contextmanager
def _only(network: PreTrainedModel, settings: GenerationConfig) -> Iterator[None]:
    """Make `settings` complete: otherwise generate() replaces values of None by those of the network's own config."""
    own = network.generation_config
    network.generation_config = GenerationConfig(decoder_start_token_id=settings.decoder_start_token_id)
    try:
        yield
    finally:
        network.generation_config = own


def _unpadded(ids: list[int], pad: int) -> list[int]:
    end = len(ids)
    while end and ids[end - 1] == pad:
        end -= 1
    return ids[:end]


def _cut(ids: list[int], ends: set[int], skip: int) -> Generation:
    """New tokens up to the first end token after the prefix."""
    for at, token in enumerate(ids[skip:], skip):
        if token in ends:
            return Generation(ids[skip:at], True)
    return Generation(ids[skip:], False)
