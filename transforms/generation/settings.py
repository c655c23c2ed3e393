"""How tokens are chosen: the model's generation_config.json, overridden by the task's options.

Each of transformers' generation parameters is in one of the groups below; a test compares them with the installed
version, so that a new parameter is not ignored by accident.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import GenerationConfig

from transforms.checkpoint import files
from transforms.errors import ModelError

if TYPE_CHECKING:
    from transforms.model import Model

# Used as they are in the file, by transformers' logits processors or, if those do not suffice, by its generate().
HONOURED = (
    *("bad_words_ids", "begin_suppress_tokens", "suppress_tokens", "sequence_bias", "stop_strings"),
    *("bos_token_id", "decoder_start_token_id", "eos_token_id", "forced_bos_token_id", "forced_eos_token_id"),
    *("pad_token_id", "encoder_no_repeat_ngram_size", "encoder_repetition_penalty", "exponential_decay_length_penalty"),
    *("guidance_scale", "length_penalty", "early_stopping", "min_length", "min_new_tokens", "no_repeat_ngram_size"),
    *("remove_invalid_values", "renormalize_logits", "repetition_penalty", "watermarking_config"),
    *("temperature", "top_k", "top_p", "top_h", "min_p", "typical_p", "epsilon_cutoff", "eta_cutoff"),
)

# Set by the task's options, as their documentation says.
DECIDED_BY_TASK = ("do_sample", "num_beams", "max_length", "max_new_tokens")

# These do not change which tokens are chosen: speculation, caches, compilation, additional return values.
LEFT_OUT = (
    *("assistant_confidence_threshold", "assistant_early_exit", "assistant_ensemble_weight", "assistant_lookbehind"),
    *("is_assistant", "num_assistant_tokens", "num_assistant_tokens_schedule", "target_lookbehind", "use_mtp"),
    *("max_matching_ngram_size", "prompt_lookup_num_tokens", "speculation_type"),
    *("cache_config", "cache_implementation", "max_cache_len", "low_memory", "prefill_chunk_size"),
    *("compile_config", "disable_compile", "continuous_batching_config"),
    *("output_attentions", "output_hidden_states", "output_logits", "output_scores", "return_dict_in_generate"),
    *("num_return_sequences", "max_time"),
)

# Unsupported ways to choose tokens, with the values that turn them off.
REFUSED: dict[str, tuple[Any, ...]] = {
    "constraints": (None,),
    "force_words_ids": (None,),
    "num_beam_groups": (None, 1),
    "diversity_penalty": (None, 0, 0.0),
    "penalty_alpha": (None, 0, 0.0),
    "dola_layers": (None,),
    "token_healing": (None, False),
}

# These only describe the file, or have no effect.
OTHERS = ("transformers_version", "use_cache")

# Parameters with token ids that are fed to the network or index its logits. End tokens are not checked: an id that the
# network does not have is never generated, so it does no harm.
TOKENS = (
    *("decoder_start_token_id", "forced_bos_token_id", "forced_eos_token_id"),
    *("suppress_tokens", "begin_suppress_tokens", "bad_words_ids"),
)


@dataclass(frozen=True)
class Decoding:
    """How to choose tokens; None means the value in the model's generation_config.json.

    Attributes:
        num_beams: number of beams; 1 is greedy search or sampling.
        sample: sample tokens instead of taking the most likely one; overrides the model's own do_sample.
        temperature, top_k, top_p: parameters of sampling; ignored without `sample`.
        length_penalty: exponent of the length in a beam's score.
        repetition_penalty: above 1, tokens that the text already contains become less likely.
        no_repeat_ngram_size: no n-gram of this size appears twice; 0 is no limit.
        min_new_tokens: minimum number of new tokens before the end.
        stop: token ids that end a text, in addition to the model's end tokens.
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


def read(folder: str, network: Any) -> GenerationConfig:
    """Read the generation config of a model folder, from config.json if there is no generation_config.json.

    Args:
        folder: folder of the model.
        network: the network, with or without weights.

    Raises:
        ModelError: the file is damaged, or asks for a way of choosing tokens that Nightscribe does not support.
    """
    file = Path(folder) / "generation_config.json"
    if not file.is_file():
        file = Path(folder) / "config.json"
    files.read_json(file)
    try:
        settings = GenerationConfig.from_pretrained(
            folder, config_file_name=file.name, _from_model_config=file.name == "config.json"
        )
    # Parameters are validated by many classes, with different exceptions.
    except Exception as error:
        raise ModelError(
            f"{file} cannot be read ({files.first_line(error)}); correct that key, or copy the file again from "
            "where the model came from"
        ) from error
    for name, off in REFUSED.items():
        if (value := getattr(settings, name, None)) not in off:
            raise ModelError(
                f"{file} has {name} {value!r}, which asks for a way of choosing tokens that Nightscribe does not have; "
                "remove that key"
            )
    _check_tokens(file, settings, network)
    return settings


def check(folder: str, model: Model) -> None:
    """Refuse values that transformers' logits processors cannot work with.

    Args:
        folder: folder of the model, for the message.
        model: the model, with the `generation_config` to check; its network may have no weights.

    Raises:
        ModelError: a logits processor refuses a value.
    """
    from transforms.generation.choice import Choice

    try:
        _ = Choice(model.network, complete(model, Decoding()), model.device).takes_rough
    except Exception as error:
        raise ModelError(
            f"the generation settings in {folder!r} are not valid ({files.first_line(error)}); correct "
            "generation_config.json, or copy it again from where the model came from"
        ) from error


def _check_tokens(file: Path, settings: GenerationConfig, network: Any) -> None:
    """Refuse tokens that the network does not have."""
    size = len(network.get_input_embeddings().weight)
    for name in TOKENS:
        value = getattr(settings, name, None)
        numbers = list(_flat(value))
        if wrong := [one for one in numbers if not isinstance(one, int) or isinstance(one, bool) or one >= size]:
            raise ModelError(
                f"{file} has {name} {value!r}, and {wrong[0]!r} is not one of the model's {size} tokens; correct it"
            )


def _flat(value: Any) -> list[Any]:
    if value is None:
        return []
    return [one for item in value for one in _flat(item)] if isinstance(value, list | tuple) else [value]


def needs_own_tokens_only(settings: GenerationConfig) -> bool:
    """Whether the next token of a row depends only on the row's own tokens and logits."""
    return (
        not settings.encoder_no_repeat_ngram_size
        and (settings.encoder_repetition_penalty or 1.0) == 1.0
        and (settings.guidance_scale or 1.0) == 1.0
        and settings.watermarking_config is None
        and not settings.stop_strings
    )


def complete(model: Model, how: Decoding) -> GenerationConfig:
    """The model's generation config, overridden by `how`."""
    settings = copy.deepcopy(model.network.generation_config or GenerationConfig())
    for name in LEFT_OUT:
        setattr(settings, name, None)
    for field in fields(how):
        value = getattr(how, field.name)
        if field.name not in ("sample", "stop") and value is not None:
            setattr(settings, field.name, value)
    # generate() has its own defaults for values that are not set, such as a top_k of 50.
    settings.update(**settings._get_default_generation_params(), defaults_only=True)
    settings.do_sample = how.sample
    if not how.sample:
        settings.temperature = settings.top_k = settings.top_p = None
    ends = settings.eos_token_id
    ends = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    settings.eos_token_id = list(dict.fromkeys([*ends, *how.stop])) or None
    settings.pad_token_id = model.tokenizer.pad_token_id if settings.pad_token_id is None else settings.pad_token_id
    settings.max_length = settings.max_new_tokens = None
    if how.min_new_tokens is not None:
        settings.min_length = None
    return settings
