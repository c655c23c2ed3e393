"""The methods: which weights of a base are trained, by the adapters of PEFT, or all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jobs.training.request import Request
from jobs.training.setup import Setup
from transforms.errors import ModelError

# Names of the query and value layers in architectures that peft's table does not have.
ATTENTION = (("q_proj", "v_proj"), ("query", "value"), ("q_lin", "v_lin"), ("q", "v"))

TASK_TYPES = {"classify": "SEQ_CLS", "ner": "TOKEN_CLS", "summarize": "SEQ_2_SEQ_LM", "translate": "SEQ_2_SEQ_LM"}

LEARNING_RATES = {
    "lora": 2e-4,
    "qlora": 2e-4,
    "prefix": 1e-2,
    "prompt": 1e-2,
    "p-tuning": 1e-2,
    "ia3": 5e-3,
    "full": 2e-5,
}


def task_type(task: str) -> str:
    """PEFT's name of the kind of network of a task."""
    return TASK_TYPES.get(task, "CAUSAL_LM")


def with_adapter(request: Request, setup: Setup) -> Any:
    """The network with an untrained adapter, its head trainable; the network itself for `method: full`.

    Raises:
        ModelError: peft refuses the settings, for example because no layer is called as target_modules says.
    """
    if request.method == "full":
        return setup.network
    from peft import PeftModel, get_peft_model

    if request.start is not None:
        return PeftModel.from_pretrained(setup.network, request.start, is_trainable=True)
    settings = dict(request.adapter)
    if setup.labels:
        settings["modules_to_save"] = list(dict.fromkeys([*(settings.get("modules_to_save") or []), *setup.new]))
    try:
        config = CONFIGS[request.method](setup.network, settings | {"task_type": task_type(request.task)})
        return get_peft_model(setup.network, config)
    except (TypeError, ValueError) as error:
        raise ModelError(f"adapter: peft refuses these settings: {' '.join(str(error).split())[:300]}") from error


def _lora(network: Any, settings: dict[str, Any]) -> Any:
    from peft import LoraConfig

    settings.setdefault("target_modules", _targets(network))
    return LoraConfig(**settings)


def _targets(network: Any) -> Any:
    """The layers that LoRA changes by default: peft's choice for the architecture, or the queries and values."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICE

    if (kind := network.config.model_type) in CHOICE:
        return CHOICE[kind]
    names = {name.rpartition(".")[2] for name, _ in network.named_modules()}
    return next((list(pair) for pair in ATTENTION if names.issuperset(pair)), "all-linear")


# Method -> a function from the base and the settings to PEFT's configuration.
CONFIGS: Mapping[str, Callable[[Any, dict[str, Any]], Any]] = {"lora": _lora}
