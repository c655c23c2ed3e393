"""The methods: which weights of a base are trained, by the adapters of PEFT, or all of them. One file a kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from jobs.training.methods import ia3, lora, qlora, virtual
from jobs.training.request import Request
from transforms.errors import ModelError

if TYPE_CHECKING:
    from jobs.training.setup import Setup

TASK_TYPES = {"classify": "SEQ_CLS", "ner": "TOKEN_CLS", "summarize": "SEQ_2_SEQ_LM", "translate": "SEQ_2_SEQ_LM"}

# Customary for real models and many steps: the fewer numbers a method trains, the larger its steps. Measured on tiny
# bases of the tests only (2 layers of width 32, 48 steps, one seed, share of 48 held-out prompts answered rightly). At
# these rates on Llama: prompt 1.00, prefix 0.98, p-tuning 0.73, and nothing with lora, ia3 and full, which learn there
# at larger ones: full 0.98 at 2e-3, ia3 0.33 at 3e-2 and 1.00 at 1e-1; lora on T5 0.13 at 2e-3 and 0.98 at 1e-2, and
# prefix on T5 0.02 at 3e-2 and 0.98 at 1e-1.
LEARNING_RATES = {
    "lora": 2e-4,
    "qlora": 2e-4,
    "prefix": 1e-2,
    "prompt": 3e-2,
    "p-tuning": 1e-3,
    "ia3": 5e-3,
    "full": 2e-5,
}

# Method -> a function from the base and the settings to PEFT's configuration.
CONFIGS: Mapping[str, Callable[[Any, dict[str, Any]], Any]] = {
    "lora": lora.config,
    "qlora": lora.config,
    "prefix": virtual.prefix,
    "prompt": virtual.prompt,
    "p-tuning": virtual.p_tuning,
    "ia3": ia3.config,
}


def arguments(method: str) -> dict[str, Any]:
    """Defaults of the arguments class that a method needs."""
    # Keys and values of a prefix are in a cache, which computing a layer once more in the backward pass would fill
    # twice; trl computes every layer twice by default.
    return {"gradient_checkpointing": False} if method == "prefix" else {}


def complaint(method: str, arguments: Mapping[str, Any]) -> str | None:
    """Why a method cannot be used here, or with these arguments, in one sentence; None if it can."""
    if method == "prefix" and arguments.get("gradient_checkpointing"):
        return (
            "training.gradient_checkpointing does not work with method prefix, whose keys and values are in a cache; "
            "remove it, or use method: prompt or lora"
        )
    return qlora.complaint() if method == "qlora" else None


def task_type(task: str) -> str:
    """PEFT's name of the kind of network of a task."""
    return TASK_TYPES.get(task, "CAUSAL_LM")


def with_adapter(request: Request, setup: Setup) -> Any:
    """The network with an untrained adapter, or with the one that the training goes on from, its head trainable.

    The network itself for `method: full`.

    Raises:
        ModelError: peft refuses the settings, for example because no layer is called as target_modules says.
    """
    if request.method == "full":
        return setup.network
    from peft import get_peft_model

    network = qlora.prepared(request, setup.network)
    if request.start is not None:
        return virtual.fitted(request, _continued(request, network))
    settings = qlora.without_quantisation(request.adapter)
    if setup.labels:
        settings["modules_to_save"] = list(dict.fromkeys([*(settings.get("modules_to_save") or []), *setup.new]))
    try:
        config = CONFIGS[request.method](network, settings | {"task_type": task_type(request.task)})
        return virtual.fitted(request, get_peft_model(network, config))
    except (TypeError, ValueError, KeyError) as error:
        raise ModelError(f"adapter: peft refuses these settings: {' '.join(str(error).split())[:300]}") from error


def _continued(request: Request, network: Any) -> Any:
    """The network with the adapter that the training goes on from.

    Raises:
        ModelError: the adapter is of another kind than the method's, or lacks what its training needs.
    """
    from peft import PeftConfig, PeftModel

    assert request.start is not None
    config = PeftConfig.from_pretrained(request.start)
    wanted = CONFIGS[request.method](network, {"task_type": task_type(request.task)}).peft_type
    if config.peft_type != wanted:
        raise ModelError(
            f"method {request.method} cannot go on from a {config.peft_type.value} adapter, only from a "
            f"{wanted.value} one; set the method of that adapter, or begin anew"
        )
    virtual.check_start(config)
    if not config.is_prompt_learning:
        return PeftModel.from_pretrained(network, request.start, is_trainable=True, config=config)
    # PEFT loads virtual tokens for inference only, so a new adapter gets those of the old one.
    from peft import get_peft_model
    from peft.utils import load_peft_weights, set_peft_model_state_dict

    config.inference_mode = False
    begun = get_peft_model(network, config)
    set_peft_model_state_dict(begun, load_peft_weights(request.start, device="cpu"))
    return begun
