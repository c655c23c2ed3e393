"""One text to generate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from transforms.generation.guide import Guide


@dataclass(frozen=True)
class Request:
    """One text to generate.

    Attributes:
        ids: the encoder's source tokens, special tokens included; or a decoder-only model's prompt.
        max_new_tokens: tokens to generate at most, `prefix` and the end token counted, as `generate()` counts.
        prefix: what an encoder-decoder's first new tokens have to be (a target language), instead of the model's own
            forced_bos_token_id; not given back.
        seed: seed of this row's random numbers when sampling, independent of the other rows in the batch.
        guide: makes the guide that constrains this text; only for a decoder-only model that fits lanes, without beams.
    """

    ids: Sequence[int]
    max_new_tokens: int
    prefix: tuple[int, ...] = ()
    seed: int = 0
    guide: Callable[[], Guide] | None = None
