"""LoRA: a product of two small matrices is added to the weights of some layers.

Hu et al. 2021, arXiv:2106.09685; rsLoRA arXiv:2312.03732 (`use_rslora`), DoRA arXiv:2402.09353 (`use_dora`).
"""

from __future__ import annotations

from typing import Any

from jobs.training.methods import layers

# Names of the query and value layers in architectures that peft's table does not have.
ATTENTION = (("q_proj", "v_proj"), ("query", "value"), ("q_lin", "v_lin"), ("q", "v"))


def config(network: Any, settings: dict[str, Any]) -> Any:
    """PEFT's configuration.

    Args:
        network: the base.
        settings: fields of LoraConfig.
    """
    from peft import LoraConfig

    settings.setdefault("target_modules", _targets(network))
    return LoraConfig(**settings)


def _targets(network: Any) -> Any:
    """The layers that LoRA changes by default: peft's choice for the architecture, or the queries and values."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICE

    if (kind := network.config.model_type) in CHOICE:
        return CHOICE[kind]
    return layers.first(network, ATTENTION) or "all-linear"
