"""What is asked of a generating model and what it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Request:
    """One text to generate.

    Attributes:
        ids: the encoder's source tokens, special tokens included; or a decoder-only model's prompt.
        max_new_tokens: tokens to generate at most, `prefix` and the end token counted, as `generate()` counts.
        prefix: what the first new tokens have to be (a target language), instead of the model's own
            forced_bos_token_id; not given back.
        seed: where this row's random numbers start when sampling, whatever rows are computed beside it.
    """

    ids: Sequence[int]
    max_new_tokens: int
    prefix: tuple[int, ...] = ()
    seed: int = 0


@dataclass(frozen=True)
class Decoding:
    """How to choose tokens; None is what the model's generation_config.json says.

    Attributes:
        num_beams: 1 is greedy (or sampling).
        sample: draw tokens instead of taking the likeliest; whatever the model's own do_sample says.
        temperature, top_k, top_p: how to draw; used with `sample` only.
        length_penalty: exponent of the length in a beam's score.
        repetition_penalty: above 1 makes tokens that were there already less likely.
        no_repeat_ngram_size: no n-gram of this size comes twice; 0 allows it.
        min_new_tokens: no end before so many new tokens.
        stop: token ids that end a text, beside the model's own end tokens.
    """

    num_beams: int = 1
    sample: bool = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    length_penalty: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    min_new_tokens: int | None = None
    stop: tuple[int, ...] = ()


@dataclass(frozen=True)
class Generation:
    """What one request gave.

    Attributes:
        ids: the new tokens, without the prefix and without the end token.
        finished: whether the model ended the text itself; False where max_new_tokens cut it.
    """

    ids: list[int]
    finished: bool


@dataclass(frozen=True)
class Generations:
    """What many requests gave.

    Attributes:
        outputs: one `Generation` a request, in the order they came; None where the request failed.
        failures: request index -> the exception that it alone still raised.
        tokens: real tokens computed, source or prompt and new ones.
        padded_tokens: slots computed, padding and finished rows included.
    """

    outputs: list[Generation | None]
    failures: dict[int, Exception]
    tokens: int
    padded_tokens: int
