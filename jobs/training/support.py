"""Which methods and objectives a base can be trained with: method x objective x architecture, or why not.

The table in the README is written from this module, and a test compares the two.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

METHODS = ("lora", "qlora", "prefix", "prompt", "p-tuning", "ia3", "full")
ARCHITECTURES = ("encoder", "encoder-decoder", "causal")

# The tasks that a version of each objective serves.
TASKS: Mapping[str, tuple[str, ...]] = {
    "supervised": ("classify", "ner", "summarize", "translate", "generate"),
    "sft": ("generate", "summarize", "translate"),
    "dpo": ("generate",),
    "kto": ("generate",),
    "orpo": ("generate",),
    "reward": ("classify",),
    "rloo": ("generate",),
    "grpo": ("generate",),
    "distill": ("classify", "ner", "summarize", "translate", "generate"),
}

# The architectures that can be trained for a task.
OF_TASK: Mapping[str, tuple[str, ...]] = {
    "classify": ("encoder", "encoder-decoder", "causal"),
    "ner": ("encoder", "causal"),
    "summarize": ("encoder-decoder",),
    "translate": ("encoder-decoder",),
    "generate": ("causal",),
}


def refusal(method: str, objective: str, task: str, architecture: str | None = None) -> str | None:
    """Why something cannot be trained, in one sentence that says what can; None if it can.

    Args:
        method: one of METHODS.
        objective: one of the keys of TASKS.
        task: the task that the version serves.
        architecture: one of ARCHITECTURES; None if the base is not known yet.
    """
    if task not in TASKS[objective]:
        return (
            f"objective {objective} trains versions for task {' or '.join(TASKS[objective])}, not for {task}; choose "
            f"that task, or one of the objectives of {task}: {', '.join(o for o, t in TASKS.items() if task in t)}"
        )
    if architecture is not None and architecture not in OF_TASK[task]:
        return (
            f"task {task} with objective {objective} needs {_a(OF_TASK[task])} model, and the base is "
            f"{_a((architecture,))} one; choose another base, or a task of {architecture} models: "
            f"{', '.join(name for name, fitting in OF_TASK.items() if architecture in fitting)}"
        )
    return _method_refusal(method, task, architecture)


def _method_refusal(method: str, task: str, architecture: str | None) -> str | None:
    """Why PEFT's methods with virtual tokens cannot train a head, in one sentence; None if they can."""
    if task != "classify" or method not in ("prefix", "prompt", "p-tuning"):
        return None
    if architecture == "encoder-decoder":
        why = (
            "because PEFT lengthens the encoder's mask by the prefix, which only the decoder has"
            if method == "prefix"
            else "whose head looks for the end of the text in the tokens, which PEFT replaces by embeddings"
        )
        return (
            f"method {method} cannot train a classifier over an encoder-decoder, {why}; use method: lora, qlora, ia3 "
            "or full"
        )
    if architecture == "causal" and method != "prefix":
        return (
            f"method {method} cannot train a classifier over a causal model, whose head then reads the last position "
            "of the batch, padding included; use method: prefix, lora, qlora, ia3 or full"
        )
    return None


def base_refusal(method: str, config: Any) -> str | None:
    """Why a method cannot train a base of this kind, in one sentence; None if it can.

    Args:
        method: one of METHODS.
        config: the configuration of the base, a PretrainedConfig.
    """
    if method == "prefix" and not _takes_past(config.model_type):
        return (
            f"method prefix gives each layer keys and values, and the layers of {config.model_type} models take none; "
            "use method: prompt, p-tuning, lora, qlora, ia3 or full"
        )
    return None


def _takes_past(kind: str) -> bool:
    """Whether the body of a kind of model takes `past_key_values`, read from its source text without torch."""
    from transformers.models.auto.modeling_auto import MODEL_MAPPING_NAMES

    names = MODEL_MAPPING_NAMES.get(kind, ())
    names = (names,) if isinstance(names, str) else names
    package = importlib.util.find_spec(f"transformers.models.{kind.replace('-', '_')}")
    if not names or package is None or package.origin is None:
        # Code of the model's own folder, for example; peft says so when it is tried.
        return True
    source = Path(package.origin).with_name(f"modeling_{kind.replace('-', '_')}.py")
    if not source.is_file():
        return True
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name in names:
            forward = next((f for f in node.body if isinstance(f, ast.FunctionDef) and f.name == "forward"), None)
            return forward is None or "past_key_values" in [each.arg for each in forward.args.args]
    return True


def architecture(config: Any) -> str:
    """The architecture of a base.

    Args:
        config: its configuration, a PretrainedConfig.
    """
    from transformers.models.auto import modeling_auto as auto

    if config.is_encoder_decoder:
        return "encoder-decoder"
    writes = config.model_type in auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    fills = config.model_type in auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return "causal" if writes and not fills else "encoder"


def _a(kinds: tuple[str, ...]) -> str:
    return " or ".join(f"an {kind}" if kind[0] in "aeiou" else f"a {kind}" for kind in kinds)
