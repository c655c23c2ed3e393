"""What the trainers of all tasks share: a network with its examples, and the adapter over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.training.request import Request
from transforms.checkpoint import pretrained
from transforms.errors import ModelError

# Names of the query and value layers in architectures that peft's table does not have.
ATTENTION = (("q_proj", "v_proj"), ("query", "value"), ("q_lin", "v_lin"), ("q", "v"))

TASK_TYPES = {"classify": "SEQ_CLS", "ner": "TOKEN_CLS", "summarize": "SEQ_2_SEQ_LM", "translate": "SEQ_2_SEQ_LM"}


@dataclass
class Setup:
    """A network and its examples.

    Attributes:
        network: the base with the head that is trained, in float32.
        tokenizer: its tokenizer.
        encode: Arrow table -> examples, each a dict with `input_ids` and what the loss needs.
        collator: examples -> batch; None for the trainer's own.
        labels: names of the outputs in their order, for a head.
        new: modules without weights in the base, which the adapter must save.
        arguments: defaults of the arguments class for this task.
    """

    network: Any
    tokenizer: Any
    encode: Callable[[Any], list[dict[str, Any]]]
    collator: Any = None
    labels: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)


def window(tokenizer: Any, config: Any) -> int | None:
    """Tokens that fit into the model, as `max_length` of a tokenizer; None without a limit."""
    sizes = [tokenizer.model_max_length]
    sizes += [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    # T5's n_positions is no limit, and a tokenizer without one has 10^30.
    known = [size for size in sizes if size is not None and 0 < size < 10**7]
    if getattr(config, "position_embedding_type", None) == "relative_key" or config.model_type in ("t5", "mt5"):
        known = [size for size in sizes[:1] if size < 10**7]
    return min(known) if known else None


def load_head(request: Request, auto: Any, labels: list[str], **more: Any) -> tuple[Any, list[str]]:
    """A network with a head for some labels, and the modules of it that the base has no weights for.

    The head of the base is kept if its labels are these.
    """
    network, absent = pretrained.load(
        auto,
        request.base,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        ignore_mismatched_sizes=True,
        dtype="float32",
        **more,
    )
    prefix = network.base_model_prefix
    parts = [key.removeprefix(f"{prefix}.").split(".")[0] for key in sorted(absent)]
    heads = [
        name for name, child in network.named_children() if name != prefix and any(True for _ in child.parameters())
    ]
    return network, list(dict.fromkeys([*heads, *parts]))


def with_adapter(request: Request, setup: Setup) -> Any:
    """The network with an untrained LoRA adapter, its head trainable; the network itself for `method: full`.

    Raises:
        ModelError: peft refuses the settings, for example because no layer is called as target_modules says.
    """
    if request.method == "full":
        return setup.network
    from peft import LoraConfig, get_peft_model

    settings = dict(request.lora)
    settings.setdefault("target_modules", _targets(setup.network))
    if setup.labels:
        settings["modules_to_save"] = list(dict.fromkeys([*(settings.get("modules_to_save") or []), *setup.new]))
    try:
        config = LoraConfig(task_type=TASK_TYPES.get(request.task, "CAUSAL_LM"), **settings)
        return get_peft_model(setup.network, config)
    except (TypeError, ValueError) as error:
        raise ModelError(f"adapter: peft refuses these settings: {' '.join(str(error).split())[:300]}") from error


def _targets(network: Any) -> Any:
    """The layers that LoRA changes by default: peft's choice for the architecture, or the queries and values."""
    from peft.utils import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as CHOICE

    if (kind := network.config.model_type) in CHOICE:
        return CHOICE[kind]
    names = {name.rpartition(".")[2] for name, _ in network.named_modules()}
    return next((list(pair) for pair in ATTENTION if names.issuperset(pair)), "all-linear")
