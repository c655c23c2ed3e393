"""Models that write text: which class loads one, how long its texts may be by default, and its tokens as strings."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PretrainedConfig

from transforms.batches import Caps
from transforms.contract import Annotation
from transforms.distinct import places
from transforms.generation.decode import Generation, Generations, decode
from transforms.generation.request import Request
from transforms.generation.settings import Decoding
from transforms.model import Model


class AutoWriter:
    """Loads any model that generates text, with transformers' AutoModelForSeq2SeqLM or AutoModelForCausalLM."""

    @staticmethod
    def from_pretrained(path: str, *, config: PretrainedConfig, **how: Any) -> Any:
        """Calls `from_pretrained` of the auto class that fits the configuration."""
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        return auto.from_pretrained(path, config=config, **how)

    @staticmethod
    def from_config(config: PretrainedConfig, **how: Any) -> Any:
        """The same network with random weights."""
        auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        return auto.from_config(config, **how)


def new_tokens(model: Model, own: dict[str, Any], default: int) -> int:
    """Maximum number of new tokens if the job file does not set it.

    Args:
        model: the model; `max_length` in its generation_config.json includes the start token.
        own: values for the task in its config.json (task_specific_params).
        default: the number if neither file sets one.
    """
    settings: Any = model.network.generation_config
    if "max_length" in own:
        return int(own["max_length"]) - 1
    if settings.max_new_tokens is not None:
        return int(settings.max_new_tokens)
    counted = model.config.is_encoder_decoder and settings.max_length
    return int(settings.max_length) - 1 if counted else default


def write(model: Model, requests: Sequence[Request], how: Decoding, max_tokens: int, caps: Caps) -> Generations:
    """Like `decode`, but equal requests are generated and counted once."""
    keys = ((tuple(r.ids), r.max_new_tokens, r.prefix, r.seed, r.adapter) for r in requests)
    members = list(places(keys).values())
    result = decode(model, [requests[first] for first, *_ in members], how, max_tokens, caps)
    outputs: list[Generation | None] = [None] * len(requests)
    for indices, output in zip(members, result.outputs, strict=True):
        for i in indices:
            outputs[i] = output
    failures = {i: error for unique, error in result.failures.items() for i in members[unique]}
    return Generations(outputs, failures, result.tokens, result.padded_tokens)


# A task over a batch, in steps: it yields texts to generate and is sent the results, so that those of several tasks can
# be generated together.
Steps = Generator[list[Request], Generations, Annotation]


def alone(steps: Steps, model: Model, how: Decoding, max_tokens: int, caps: Caps) -> Annotation:
    """Generate the texts of one task; arguments as of `write`."""
    try:
        requests = next(steps)
        while True:
            requests = steps.send(write(model, requests, how, max_tokens, caps))
    except StopIteration as end:
        annotation: Annotation = end.value
        return annotation


def texts_of(model: Model, generations: Sequence[Generation | None]) -> list[str | None]:
    """The texts of generations, without special tokens; None for a missing generation."""
    kept = [generation.ids for generation in generations if generation is not None]
    texts = iter(model.tokenizer.batch_decode(kept, skip_special_tokens=True))
    return [None if generation is None else next(texts).strip() for generation in generations]
