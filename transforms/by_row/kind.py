"""Which adapters can compute rows beside those of others: plain LoRA, as its adapter_config.json says."""

from __future__ import annotations

from transforms import adapter as adapters
from transforms.errors import ModelError

# Values of init_lora_weights that leave the weights of the base as they are; others change them for this adapter alone.
PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "true", "false")

# Keys of an adapter_config.json that make a LoRA more than a low-rank term, with the values that turn them off.
EXTRAS = {
    "use_dora": "DoRA",
    "use_qalora": "QALoRA",
    "lora_bias": "a bias in its low-rank terms (lora_bias)",
    "target_parameters": "terms for parameters outside of layers (target_parameters)",
    "trainable_token_indices": "single trained tokens (trainable_token_indices)",
    "layer_replication": "replicated layers (layer_replication)",
    "alora_invocation_tokens": "invocation tokens (aLoRA)",
    "arrow_config": "a router (Arrow)",
    "use_bdlora": "block-diagonal terms (BD-LoRA)",
    "kasa_config": "KaSA",
    "monteclora_config": "MonteCLoRA",
    "megatron_config": "layers of Megatron",
}


def check(adapter: str) -> None:
    """Refuse an adapter that is no plain LoRA: those cannot share a batch. Reads adapter_config.json only.

    Raises:
        ModelError: with its kind.
    """
    content = adapters.read(adapter)
    what = None if content["peft_type"] == "LORA" else content["peft_type"]
    start = content.get("init_lora_weights", True)
    if what is None:
        what = next((words for key, words in EXTRAS.items() if content.get(key)), None)
    if what is None and content.get("bias", "none") != "none":
        what = f"trained biases (bias: {content['bias']})"
    if what is None and (start.lower() if isinstance(start, str) else start) not in PLAIN_STARTS:
        what = f"a base of its own (init_lora_weights: {start})"
    if what is not None:
        raise ModelError(
            f"adapter {adapter!r} has {what}, and adapters by row must be plain LoRA, because their rows share "
            "batches; use `adapter:` in a task of its own for it, or train it with method: lora"
        )
