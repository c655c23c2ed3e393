"""A LoRA as another engine expects its folder: adapter_config.json and adapter_model.safetensors, nothing else.

Engines read one rank and one scale for a whole adapter. Ranks and scales that differ by layer are brought to one: the
factors are padded with zeros to the largest rank, and the scale is multiplied into one of them, which changes no
product.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transforms import adapter as adapters
from transforms import output_folder
from transforms.checkpoint import fingerprint, weights
from transforms.errors import ModelError

Config = Mapping[str, Any]

# Suffixes of the tensors of a LoRA's two factors in PEFT's files.
DOWN, UP = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Rule:
    """What an engine does not read.

    Attributes:
        what: the key and its value, for the message.
        broken: whether an adapter has it.
    """

    what: str
    broken: Callable[[Config], bool]


@dataclass(frozen=True)
class Engine:
    """What an engine reads of a LoRA folder.

    Attributes:
        name: its name in messages.
        source: where its loader is.
        rules: what it refuses, or ignores so that its results would be others.
        most_rank: largest rank.
        rslora: whether it reads use_rslora; otherwise the scale is written as lora_alpha.
    """

    name: str
    source: str
    rules: tuple[Rule, ...]
    most_rank: int | None = None
    rslora: bool = True


COMMON = (
    Rule("task_type is not CAUSAL_LM", lambda config: config.get("task_type") != "CAUSAL_LM"),
    Rule("use_dora is true", lambda config: bool(config.get("use_dora"))),
    Rule("modules_to_save is not empty", lambda config: bool(config.get("modules_to_save"))),
    Rule("trainable_token_indices is not empty", lambda config: bool(config.get("trainable_token_indices"))),
    Rule("bias is not none", lambda config: config.get("bias", "none") != "none" or bool(config.get("lora_bias"))),
    Rule("target_parameters is not empty", lambda config: bool(config.get("target_parameters"))),
    Rule("layer_replication is not empty", lambda config: bool(config.get("layer_replication"))),
)

ENGINES: dict[str, Engine] = {
    # max_lora_rank is one of 1, 8, 16, 32, 64, 128, 256, 320, 512 (vllm/config/lora.py).
    "vllm": Engine("vLLM", "https://github.com/vllm-project/vllm/blob/main/vllm/lora/peft_helper.py", COMMON, 512),
    "tgi": Engine(
        "TGI",
        "https://github.com/huggingface/text-generation-inference/blob/main/server/text_generation_server/adapters/lora.py",
        COMMON,
    ),
    # The converter reads lora_alpha, and the rank from the tensors.
    "llama.cpp": Engine(
        "llama.cpp",
        "https://github.com/ggml-org/llama.cpp/blob/master/convert_lora_to_gguf.py",
        COMMON,
        rslora=False,
    ),
}

PEFT = "peft"
CHOICES = (*ENGINES, PEFT)


def export(adapter: str, base: str, revision: str | None, engine: str, folder: Path) -> int:
    """Write an adapter as an engine expects it.

    Args:
        adapter: adapter folder.
        base: name or folder of its base, for base_model_name_or_path.
        revision: commit of a base on the Hub.
        engine: one of CHOICES; peft gets every file as it is, except Nightscribe's own.
        folder: where to write; must not exist or be empty.

    Returns:
        The rank of the LoRA; 0 for another kind.

    Raises:
        ModelError: the engine cannot read such an adapter, or the folder has files.
    """
    output_folder.check(folder)
    config = adapters.read(adapter)
    weights.read(weights.find(adapter, weights.ADAPTER_NAMES, "adapter"))
    origin = {"base_model_name_or_path": base, "revision": revision}
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".export-") as temporary:
        made = Path(temporary) / "adapter"
        if engine == PEFT:
            shutil.copytree(adapter, made, ignore=shutil.ignore_patterns(fingerprint.ORIGIN, ".*"))
            written = config | origin
        else:
            check(adapter, config, ENGINES[engine])
            made.mkdir()
            written = _plain(adapter, config, ENGINES[engine], made) | origin
        (made / "adapter_config.json").write_text(json.dumps(written, indent=2, sort_keys=True) + "\n")
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
    return int(written.get("r") or 0)


def check(adapter: str, config: Config, engine: Engine) -> None:
    """Refuse an adapter that an engine cannot read, or would read as another one.

    Raises:
        ModelError: with what the engine does not read, and what to do instead.
    """
    kind = config["peft_type"]
    if kind in ("PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING", "MULTITASK_PROMPT_TUNING", "CPT", "CARTRIDGE"):
        raise ModelError(
            f"adapter {adapter!r} is {kind}, {engine.name} reads only LORA, and virtual tokens cannot be merged; use "
            "it in a job, or with `--for peft`"
        )
    what = f"its peft_type is {kind}" if kind != "LORA" else None
    what = what or next((rule.what for rule in engine.rules if rule.broken(config)), None)
    largest = max([int(config.get("r") or 0), *map(int, (config.get("rank_pattern") or {}).values())])
    if what is None and engine.most_rank is not None and largest > engine.most_rank:
        what = f"its rank is {largest}, and the largest is {engine.most_rank}"
    if what is not None:
        raise ModelError(
            f"adapter {adapter!r} cannot be exported for {engine.name} ({what}); write a whole model with "
            "`nightscribe adapters merge`, which every engine reads"
        )


def _plain(adapter: str, config: Config, engine: Engine, folder: Path) -> dict[str, Any]:
    """Write the tensors; returns the configuration that goes with them."""
    from peft.utils import load_peft_weights
    from safetensors.torch import save_file

    tensors: dict[str, Any] = load_peft_weights(adapter, device="cpu")
    if odd := [name for name in tensors if not name.endswith((DOWN, UP))]:
        raise ModelError(
            f"adapter {adapter!r} cannot be exported for {engine.name} (it has the tensor {odd[0]}, which is no lora_A "
            "or lora_B of a linear layer); write a whole model with `nightscribe adapters merge`, which every engine "
            "reads"
        )
    layers = sorted(name.removesuffix(DOWN) for name in tensors if name.endswith(DOWN))
    ranks = {layer: len(tensors[layer + DOWN]) for layer in layers}
    scales = {layer: _scale(config, layer, ranks[layer]) for layer in layers}
    rank, alpha, rslora = int(config["r"]), config["lora_alpha"], bool(config.get("use_rslora"))
    if len(set(ranks.values())) > 1 or len(set(scales.values())) > 1 or ranks[layers[0]] != rank:
        # With lora_alpha equal to the rank, the scale that engines compute is 1.
        rank = alpha = max(ranks.values())
        rslora = False
        for layer in layers:
            tensors[layer + DOWN] = _padded(tensors[layer + DOWN], rank, 0)
            tensors[layer + UP] = _padded(tensors[layer + UP] * scales[layer], rank, 1)
    elif rslora and not engine.rslora:
        rslora, alpha = False, alpha * math.sqrt(rank)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "adapter_model.safetensors")
    return {
        "peft_type": "LORA",
        "task_type": config["task_type"],
        "inference_mode": True,
        "r": rank,
        "lora_alpha": alpha,
        "use_rslora": rslora,
        "use_dora": False,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": bool(config.get("fan_in_fan_out")),
        "modules_to_save": None,
        "target_modules": _targets(config, layers),
    }


def _targets(config: Config, layers: list[str]) -> list[str]:
    """The adapted layers as a list: names if PEFT finds the same layers by them, else whole paths."""
    names = config.get("target_modules")
    narrowed = any(config.get(key) for key in ("layers_to_transform", "layers_pattern", "exclude_modules"))
    if isinstance(names, list) and not narrowed:
        return sorted(names)
    return [layer.removeprefix("base_model.model.") for layer in layers]


def _scale(config: Config, layer: str, rank: int) -> float:
    """The factor of a layer's product, as PEFT computes it: a pattern matches the end of a layer's path."""
    path = layer.removeprefix("base_model.model.")
    patterns = config.get("alpha_pattern") or {}
    found = (value for pattern, value in patterns.items() if re.match(rf"(.*\.)?({pattern})$", path))
    alpha = float(next(found, config["lora_alpha"]))
    return alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank


def _padded(tensor: Any, rank: int, dim: int) -> Any:
    shape = list(tensor.shape)
    shape[dim] = rank
    whole = tensor.new_zeros(shape)
    whole.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
    return whole
