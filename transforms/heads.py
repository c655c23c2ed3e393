"""The head that a model's config.json names; a model with a head that the task cannot use is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from transforms.errors import ModelError

if TYPE_CHECKING:
    from transformers import PretrainedConfig


def labels(config: PretrainedConfig) -> list[str]:
    """Label names in the order of the logits."""
    names: Any = config.id2label
    return [str(names[i]) for i in sorted(names)]


def require(config: PretrainedConfig | None, suffix: str, task: str) -> None:
    """Refuse a model if the architecture in its config.json lacks the head that a task needs.

    Raises:
        ModelError: the architectures are known and none of them has `suffix` in its name (XLNet's question answering
            head is a …ForQuestionAnsweringSimple).
    """
    architectures = getattr(config, "architectures", None) or []
    if architectures and not any(suffix in name for name in architectures):
        raise ModelError(
            f"{task} needs a model with a head (…{suffix}), and this one is a {', '.join(architectures)}; "
            f"choose a model that was trained for {task}, or add an adapter that contains the head"
        )


def require_language_head(config: PretrainedConfig | None, task: str, causal: bool = True) -> None:
    """Refuse a model that does not generate text.

    Args:
        config: the model's configuration, None if unknown.
        task: which task needs the head.
        causal: whether a decoder-only model is accepted.

    Raises:
        ModelError: its config.json names another head, or a decoder-only model where that is not accepted.
    """
    endings = ["ForConditionalGeneration", "MTModel"] + ["ForCausalLM", "LMHeadModel"] * causal
    architectures = getattr(config, "architectures", None) or []
    if architectures and not any(name.endswith(tuple(endings)) for name in architectures):
        raise ModelError(
            f"{task} needs a model that writes text (…{', …'.join(endings)}), and this one is a "
            f"{', '.join(architectures)}; choose a model that was trained for {task}"
        )
