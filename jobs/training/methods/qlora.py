"""QLoRA: a LoRA adapter is trained over a base whose weights are quantised to 4 or 8 bits by bitsandbytes.

Dettmers et al. 2023, arXiv:2305.14314 (NF4) and 2022, arXiv:2208.07339 (8 bit). Only the training is quantised: the
adapter is used over the base as it is. It works on a CPU too, with bitsandbytes 0.50.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.errors import ModelError

if TYPE_CHECKING:
    from jobs.training.request import Request

# Keys of `adapter` that belong to transformers' BitsAndBytesConfig, with their types; the others are LoraConfig's.
KEYS: Mapping[str, Any] = {
    "load_in_4bit": bool,
    "load_in_8bit": bool,
    "bnb_4bit_quant_type": str,
    "bnb_4bit_use_double_quant": bool,
    "bnb_4bit_compute_dtype": str,
    "llm_int8_threshold": float,
    "llm_int8_skip_modules": list[str],
}
CHOICES = {"bnb_4bit_quant_type": ("nf4", "fp4"), "bnb_4bit_compute_dtype": ("float32", "bfloat16", "float16")}


def complaint() -> str | None:
    """Why this machine cannot quantise, in one sentence; None if it can."""
    if importlib.util.find_spec("bitsandbytes") is None:
        return (
            "method qlora needs bitsandbytes, which is not installed; pip install 'nightscribe[qlora]', or use "
            "method: lora"
        )
    return None


def has_use(request: Request) -> bool:
    """Whether a training may use bitsandbytes: it, its optimizer, or a model that it loads is quantised.

    Args:
        request: the training.
    """
    optimizer, start = request.arguments.get("optim", "adamw_torch"), request.adapter.get("init_lora_weights")
    # Rewards are other people's models and functions. LoftQ rounds with bitsandbytes if there is one.
    if request.method == "qlora" or request.reward or "torch" not in str(optimizer) or start == "loftq":
        return True
    return any(_is_quantised(folder) for folder in (request.base, request.start) if folder is not None)


def check(values: Mapping[str, Any]) -> None:
    """Refuse keys of the quantisation that contradict each other.

    Raises:
        ValueError: one sentence.
    """
    for key, choices in CHOICES.items():
        if key in values and values[key] not in choices:
            raise ValueError(f"adapter.{key} is {values[key]!r}; choices: {', '.join(choices)}")
    eight, four = values.get("load_in_8bit", False), values.get("load_in_4bit")
    if eight and four:
        raise ValueError("adapter.load_in_4bit and adapter.load_in_8bit are both true; give one of them")
    if four is False and not eight:
        raise ValueError("adapter.load_in_4bit is false; set adapter.load_in_8bit: true, or use method: lora")
    if eight and (wrong := [key for key in values if key.startswith("bnb_4bit")]):
        raise ValueError(f"adapter.{wrong[0]} applies to 4 bits only, and adapter.load_in_8bit is true; remove one")
    if not eight and "llm_int8_threshold" in values:
        raise ValueError("adapter.llm_int8_threshold applies to 8 bits only; add adapter.load_in_8bit: true")


def without_quantisation(values: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of LoraConfig."""
    return {key: value for key, value in values.items() if key not in KEYS}


def loading(request: Request, auto: Any, **more: Any) -> dict[str, Any]:
    """The arguments of `from_pretrained` for the base of a training: in float32, quantised for `method: qlora`.

    Args:
        request: the training.
        auto: the class that loads it, such as AutoModelForCausalLM.
        more: further arguments, such as the labels of a head.
    """
    if request.method != "qlora":
        return {"dtype": "float32"}
    if why := complaint():
        raise ModelError(why)
    import torch
    from transformers import BitsAndBytesConfig

    given = {key: value for key, value in request.adapter.items() if key in KEYS}
    skipped = [*_unquantised(request, auto, more), *given.pop("llm_int8_skip_modules", ())]
    if given.get("load_in_8bit"):
        settings = given
    else:
        settings = {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4", "bnb_4bit_compute_dtype": _dtype()} | given
    quantisation = BitsAndBytesConfig(**settings, llm_int8_skip_modules=skipped)
    on_gpu = torch.cuda.is_available() and not request.arguments.get("use_cpu", False)
    where = torch.cuda.current_device() if on_gpu else "cpu"
    return {"dtype": "float32", "quantization_config": quantisation, "device_map": {"": where}}


def unpacked(network: Any) -> Any:
    """A network that was just loaded, whose quantised weights keep the form in which bitsandbytes trains; in place.

    On a processor with AVX-512 for bfloat16, bitsandbytes 0.50 would pack them anew in the first evaluation, in a form
    in which it cannot train, and fails for layers that are smaller than a block.
    """
    for module in network.modules():
        if type(module).__name__ == "Linear4bit":
            module.support_avx512bf16_for_cpu = False
    return network


def prepared(request: Request, network: Any) -> Any:
    """A quantised base whose weights are fixed; another base as it is.

    Raises:
        ModelError: no layer of it could be quantised.
    """
    if request.method != "qlora":
        return network
    from peft import prepare_model_for_kbit_training

    if not any(type(module).__name__ in ("Linear4bit", "Linear8bitLt") for module in network.modules()):
        raise ModelError(
            f"method qlora: bitsandbytes can quantise no layer of this {network.config.model_type} model; use "
            "method: lora"
        )
    # The trainer turns gradient checkpointing on itself where it is asked to.
    return prepare_model_for_kbit_training(network, use_gradient_checkpointing=False)


def in_float32(network: Any) -> None:
    """Train the weights of the adapter in float32, in place.

    TRL's trainers round those over a quantised base to bfloat16. A trained head then does not fit its float32 inputs,
    and the adapter that is saved has lost the small updates of its weights.
    """
    import torch

    for weight in network.parameters():
        if weight.requires_grad and weight.dtype == torch.bfloat16:
            weight.data = weight.data.float()


def plain(config: Any) -> Any:
    """The configuration of a base without what its quantisation has left in it, in place."""
    for name in ("quantization_config", "_pre_quantization_dtype"):
        if hasattr(config, name):
            delattr(config, name)
    return config


def _is_quantised(folder: str) -> bool:
    """Whether the configuration of a model, if the folder has one, names a quantisation."""
    file = Path(folder) / "config.json"
    return file.is_file() and "quantization_config" in json.loads(file.read_text(encoding="utf-8"))


def _unquantised(request: Request, auto: Any, more: Mapping[str, Any]) -> list[str]:
    """Modules that must not be quantised: those that are trained, those without weights, and the language head."""
    from transforms.checkpoint import config as configs
    from transforms.checkpoint import network as networks
    from transforms.checkpoint import weights

    config = configs.read(request.base)
    for key, value in more.items():
        if hasattr(config, key):
            setattr(config, key, value)
    shapes, absent = networks.build(request.base, config, auto, weights.read(weights.find(request.base)), adapter="")
    outside = [name for name, _ in shapes.named_children() if name != shapes.base_model_prefix]
    if len(outside) == len(list(shapes.named_children())):
        outside = ["lm_head"]
    return list(dict.fromkeys([*outside, *sorted(key.rpartition(".")[0] for key in absent)]))


def _dtype() -> str:
    import torch

    return "bfloat16" if torch.cuda.is_available() and torch.cuda.is_bf16_supported() else "float32"
