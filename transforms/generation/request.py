"""One text to generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transforms.generation.guide import Guide


@dataclass(frozen=True)
class Request:
    """One text to generate.

    Attributes:
        ids: source tokens of an encoder-decoder, including special tokens, or the prompt of a decoder-only model.
        max_new_tokens: maximum number of new tokens, including `prefix` and the end token, as in `generate()`.
        prefix: forced first tokens of an encoder-decoder (a target language), instead of the model's own
            forced_bos_token_id; not part of the result.
        seed: seed of this row's random numbers when sampling, independent of the other rows in the batch.
        guide: creates the guide that constrains this text; only for decoder-only models that use lanes, without beams.
        adapter: number of the adapter that computes this text; 0 for a network with one for all texts.
    """

    ids: Sequence[int]
    max_new_tokens: int
    prefix: tuple[int, ...] = ()
    seed: int = 0
    guide: Callable[[], Guide] | None = None
    adapter: int = 0
