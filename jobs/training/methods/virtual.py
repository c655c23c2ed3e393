"""Prefix tuning, prompt tuning and p-tuning: learnt vectors before every text, and a base that stays as it is.

Li and Liang 2021, arXiv:2101.00190 (prefix: keys and values of every layer); Lester et al. 2021, arXiv:2104.08691
(prompt: embeddings); Liu et al. 2021, arXiv:2103.10385 (p-tuning: embeddings that a small network computes).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from transforms.errors import ModelError

if TYPE_CHECKING:
    from jobs.training.request import Request

# Embeddings before the tokens; prefix tuning has none.
EMBEDDED = ("prompt", "p-tuning")
METHODS = ("prefix", *EMBEDDED)

VIRTUAL_TOKENS = 20

# The weights that are trained, in a checkpoint: PEFT saves what they compute, from which a training cannot go on.
STATE = "virtual_tokens.safetensors"


def count(request: Request) -> int:
    """Places before each text that the method takes from the model's window."""
    return int(request.adapter.get("num_virtual_tokens", VIRTUAL_TOKENS)) if request.method in METHODS else 0


def prefix(network: Any, settings: dict[str, Any]) -> Any:
    """PEFT's configuration of prefix tuning; `settings` are fields of PrefixTuningConfig."""
    from peft import PrefixTuningConfig

    return PrefixTuningConfig(**_attention(network.config) | {"num_virtual_tokens": VIRTUAL_TOKENS} | settings)


def prompt(network: Any, settings: dict[str, Any]) -> Any:
    """PEFT's configuration of prompt tuning; `settings` are fields of PromptTuningConfig.

    It begins with embeddings of drawn tokens: random vectors, PEFT's default, are far from all of them, and learn
    slowly (Lester et al., figure 3b).
    """
    from peft import PromptTuningConfig

    text = "prompt_tuning_init_text" in settings
    settings.setdefault("prompt_tuning_init", "TEXT" if text else "SAMPLE_VOCAB")
    if text:
        settings["tokenizer_name_or_path"] = network.config.name_or_path
    return PromptTuningConfig(**_embedded(network) | settings)


def p_tuning(network: Any, settings: dict[str, Any]) -> Any:
    """PEFT's configuration of p-tuning; `settings` are fields of PromptEncoderConfig."""
    from peft import PromptEncoderConfig

    return PromptEncoderConfig(**_embedded(network) | settings)


def check_start(config: Any) -> None:
    """Refuse an adapter that cannot be trained further.

    Args:
        config: its PeftConfig.

    Raises:
        ModelError: what its vectors were computed with is not saved in it.
    """
    if config.peft_type.value == "P_TUNING" or getattr(config, "prefix_projection", False):
        kind = "P_TUNING adapter" if config.peft_type.value == "P_TUNING" else "PREFIX_TUNING adapter with a projection"
        raise ModelError(
            f"a {kind} cannot be trained further, because PEFT saves its vectors without the network that computed "
            "them; use method: prompt, or prefix without prefix_projection, for what is trained in several stages"
        )
    if getattr(config, "prompt_tuning_init", None) is not None:
        # The vectors are those of the adapter.
        config.prompt_tuning_init, config.prompt_tuning_init_text, config.tokenizer_kwargs = "RANDOM", None, None


def fitted(request: Request, network: Any) -> Any:
    """A PeftModel that takes labels per token where PEFT does not move them behind the virtual tokens."""
    if request.method not in EMBEDDED or request.task != "ner":
        return network
    import torch

    ahead = network.active_peft_config.num_virtual_tokens

    def shift(_: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        if (labels := named.get("labels")) is None:
            return arguments, named
        return arguments, named | {"labels": torch.nn.functional.pad(labels, (ahead, 0), value=-100)}

    network.register_forward_pre_hook(shift, with_kwargs=True)
    return network


def save(network: Any, folder: Path) -> None:
    """Write the weights that are trained into a checkpoint."""
    from safetensors.torch import save_file

    weights = {name: weight.detach().cpu().contiguous() for name, weight in _trained(network).items()}
    save_file(weights, folder / STATE)


def restore(network: Any, folder: Path) -> None:
    """Read them from a checkpoint.

    Raises:
        ModelError: the checkpoint is of another training.
    """
    import torch
    from safetensors.torch import load_file

    found, wanted = load_file(folder / STATE), _trained(network)
    if found.keys() != wanted.keys():
        raise ModelError(f"{folder} is a checkpoint of another training; remove it and run again")
    with torch.no_grad():
        for name, weight in wanted.items():
            weight.copy_(found[name])


def restoring(kind: type) -> type:
    """A trainer that reads the weights of its checkpoints with `restore`.

    transformers would put the vectors that PEFT saves in the place of what computes them, which is wrong without an
    error for p-tuning, and an error for prefix tuning with a projection.

    Args:
        kind: the library's trainer.
    """

    class Restoring(kind):
        def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
            restore(self.model if model is None else model, Path(resume_from_checkpoint))

        def _load_best_model(self) -> None:
            restore(self.model, Path(self.state.best_model_checkpoint))

    return Restoring


def _trained(network: Any) -> dict[str, Any]:
    return {name: weight for name, weight in network.named_parameters() if weight.requires_grad}


def _embedded(network: Any) -> dict[str, Any]:
    """The sizes of virtual tokens. PEFT takes the width of the layers, which ALBERT's and ELECTRA's embeddings lack."""
    config = network.config
    return {
        "num_virtual_tokens": VIRTUAL_TOKENS,
        "token_dim": network.get_input_embeddings().embedding_dim,
        "num_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
    }


def _attention(config: Any) -> dict[str, Any]:
    """The sizes of keys and values where PEFT, which takes those of a BERT, would be wrong."""
    sizes: dict[str, Any] = {}
    if config.is_encoder_decoder:
        # The prefix stands before what the decoder writes.
        layers = [getattr(config, name, None) for name in ("decoder_layers", "num_decoder_layers")]
        sizes["num_layers"] = next((size for size in layers if size is not None), config.num_hidden_layers)
        sizes["num_attention_heads"] = getattr(config, "decoder_attention_heads", config.num_attention_heads)
    if (size := getattr(config, "d_kv", None)) is not None:
        sizes["token_dim"] = size * config.num_attention_heads
    return sizes
