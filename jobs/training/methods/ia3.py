"""(IA)3: keys, values and the inputs of the second feed-forward layer are multiplied by learnt vectors.

Liu et al. 2022, arXiv:2205.05638. It trains ten times fewer numbers than LoRA, and can be merged as LoRA can.
"""

from __future__ import annotations

from typing import Any

from jobs.training.methods import layers
from transforms.errors import ModelError

# Names of keys and values, and of second feed-forward layers, in architectures that peft's tables do not have.
KEYS_VALUES = (
    ("k_proj", "v_proj"), ("key", "value"), ("k_lin", "v_lin"), ("k", "v"), ("key_proj", "value_proj"),
    ("query_key_value",), ("Wqkv",), ("c_attn",), ("qkv_proj",),
)  # fmt: skip
FEED_FORWARD = (
    ("down_proj",), ("output.dense",), ("lin2",), ("fc2",), ("mlp.c_proj",), ("wo",), ("dense_4h_to_h",), ("fc_out",),
    ("mlp.Wo",), ("w2",),
)  # fmt: skip


def config(network: Any, settings: dict[str, Any]) -> Any:
    """PEFT's configuration.

    Args:
        network: the base.
        settings: fields of IA3Config.

    Raises:
        ModelError: the layers are not known.
    """
    from peft import IA3Config
    from peft.utils import TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING as CHOICE

    if "target_modules" not in settings and network.config.model_type not in CHOICE:
        attention, second = layers.first(network, KEYS_VALUES), layers.first(network, FEED_FORWARD)
        if attention is None or second is None:
            raise ModelError(
                f"method ia3 does not know which layers of a {network.config.model_type} model to change; name them "
                "with adapter.target_modules and adapter.feedforward_modules, or use method: lora"
            )
        settings |= {"target_modules": attention + second, "feedforward_modules": second}
    # Layers that a file names are attention layers unless it says otherwise.
    if "target_modules" in settings:
        settings.setdefault("feedforward_modules", [])
    return IA3Config(**settings)
