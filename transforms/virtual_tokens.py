"""Adapters that put trained vectors before every text: prompt tuning, p-tuning and prefix tuning.

They cannot be merged into the weights, so the network remains a PeftModel. Prompt tuning (Lester et al. 2021,
arXiv:2104.08691) and p-tuning (Liu et al. 2021, arXiv:2103.10385) put embeddings before the tokens, so every output per
token begins with outputs of virtual tokens; prefix tuning (Li and Liang 2021, arXiv:2101.00190) gives each layer keys
and values instead.
"""

from __future__ import annotations

import inspect
from typing import Any

from torch import nn

from transforms.errors import ModelError

# PEFT task type -> part of the class name of its networks. PEFT has no task type for masked language models.
CLASSES = {
    "SEQ_CLS": "ForSequenceClassification",
    "TOKEN_CLS": "ForTokenClassification",
    "QUESTION_ANS": "ForQuestionAnswering",
    "CAUSAL_LM": ("ForCausalLM", "LMHeadModel"),
    "SEQ_2_SEQ_LM": ("ForConditionalGeneration", "MTModel"),
    "FEATURE_EXTRACTION": "Model",
}

# Kinds that train keys and values, and the kind whose prompt depends on a task.
CACHED = ("PREFIX_TUNING", "CARTRIDGE")
MULTITASK = "MULTITASK_PROMPT_TUNING"


def count(network: Any) -> int:
    """Virtual tokens before each text of a network; 0 if it has no such adapter."""
    config = getattr(network, "active_peft_config", None) if hasattr(network, "peft_config") else None
    return int(config.num_virtual_tokens) if config is not None and config.is_prompt_learning else 0


def base_of(network: Any) -> Any:
    """The network below such an adapter, or the network itself."""
    return network.get_base_model() if count(network) else network


def check(adapter: str, config: Any, network: nn.Module) -> None:
    """Refuse an adapter that PEFT would ignore silently, or that the network cannot use.

    Args:
        adapter: folder of the adapter.
        config: its PeftConfig.
        network: the base network.

    Raises:
        ModelError: the adapter's task type is missing or differs from the network's, or prefix tuning is used with
            layers that have no keys and values.
    """
    kind = type(network).__name__
    ending = CLASSES.get(config.task_type)
    fits = ending is not None and any(part in kind for part in ([ending] if isinstance(ending, str) else ending))
    if not fits or (config.task_type == "FEATURE_EXTRACTION" and "For" in kind):
        raise ModelError(
            f"adapter {adapter!r} ({config.peft_type.value}) has task_type {config.task_type}, and the model is a "
            f"{kind}; use it for the task that it was trained for, or an adapter of another kind, such as LORA"
        )
    if config.peft_type.value in CACHED and not _takes_past(network):
        raise ModelError(
            f"adapter {adapter!r} is {config.peft_type.value}, and the layers of {kind} accept no past keys and "
            "values; use prompt tuning, or an adapter of a kind that can be merged, such as LORA"
        )
    if getattr(network, "_is_stateful", False):
        raise ModelError(
            f"adapter {adapter!r} ({config.peft_type.value}) puts virtual tokens before each text, and {kind} keeps a "
            "state that cannot begin with them; use an adapter of a kind that can be merged, such as LORA"
        )
    if getattr(config, "num_tasks", 1) != 1:
        raise ModelError(
            f"adapter {adapter!r} ({config.peft_type.value}) is for {config.num_tasks} tasks (num_tasks), and a job "
            "cannot say which; save an adapter for one of them, num_tasks: 1"
        )


def settings(adapter: str) -> Any:
    """The PeftConfig of an adapter as it is loaded for inference, without the files that its training began with."""
    from peft import PeftConfig
    from peft.tuners.multitask_prompt_tuning import MultitaskPromptTuningInit

    config: Any = PeftConfig.from_pretrained(adapter)
    if config.peft_type.value == MULTITASK:
        config.prompt_tuning_init = MultitaskPromptTuningInit.RANDOM
    return config


def settle(laid: Any) -> None:
    """Turn a multitask prompt for one task into the prompt that it stands for, in place; others stay as they are.

    Its embeddings are a shared prompt times a product of two matrices per task (Wang et al. 2023, arXiv:2303.02861).
    """
    from peft import PeftType

    config = laid.active_peft_config
    if config.peft_type.value != MULTITASK:
        return
    prompt = laid.prompt_encoder[laid.active_adapter]
    prompt.embedding.weight.data *= (prompt.prefix_task_cols[0] @ prompt.prefix_task_rows[0]).detach()
    config.peft_type = PeftType.PROMPT_TUNING


def _takes_past(network: Any) -> bool:
    body = getattr(network, network.base_model_prefix, network)
    return any("past_key_values" in inspect.signature(module.forward).parameters for module in (network, body))


def hide(network: Any) -> None:
    """Remove the outputs of virtual tokens from a PeftModel's output, in place.

    Args:
        network: a PeftModel. Its ModelOutput has tensors `(batch, virtual + seq, ...)` for outputs per token, or
            `(batch, seq, ...)` with prefix tuning.
    """
    ahead = count(network)

    def cut(_: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        ids = named.get("input_ids", arguments[0] if arguments else None)
        if ids is None or not hasattr(output, "items"):
            return output
        for name, value in output.items():
            if getattr(value, "ndim", 0) >= 2 and value.shape[:2] == (len(ids), ahead + ids.shape[1]):
                output[name] = value[:, ahead:]
        return output

    network.register_forward_hook(cut, with_kwargs=True)
