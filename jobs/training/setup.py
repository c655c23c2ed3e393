"""What the trainers of all objectives share: a network with its examples, and the library's trainer for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from jobs.training.methods import qlora, virtual
from jobs.training.request import Request
from transforms.checkpoint import pretrained


@dataclass
class Setup:
    """A network and its examples.

    Attributes:
        kind: the library's trainer, and its arguments class.
        network: the base with the head that is trained, in float32.
        tokenizer: its tokenizer.
        encode: Arrow table -> examples, each a dict with `input_ids` and what the loss needs; or with the columns that
            the trainer encodes itself.
        collator: examples -> batch; None for the trainer's own.
        labels: names of the outputs in their order, for a head.
        new: modules without weights in the base, which the adapter must save.
        arguments: defaults of the arguments class for this objective.
        fixed: fields of the arguments class that a training file cannot change.
        more: further arguments of the trainer, such as `reward_funcs`.
        lengths: column of the examples, of lists or of their lengths, that decides which rows share a batch; None for
            the trainer's own order.
        validated: whether the validation rows decide when to stop; otherwise they are training rows too.
        repeats: how often a row is in an epoch.
        mislabelled: whether rows that are probably mislabelled are looked for, see `jobs.training.held_out`.
    """

    kind: tuple[Any, Any]
    network: Any
    tokenizer: Any
    encode: Callable[[Any], list[dict[str, Any]]]
    collator: Any = None
    labels: list[str] = field(default_factory=list)
    new: list[str] = field(default_factory=list)
    arguments: dict[str, Any] = field(default_factory=dict)
    fixed: dict[str, Any] = field(default_factory=lambda: {"remove_unused_columns": False})
    more: dict[str, Any] = field(default_factory=dict)
    lengths: str | None = "input_ids"
    validated: bool = True
    repeats: int = 1
    mislabelled: bool = False


def window(tokenizer: Any, config: Any, request: Request | None = None) -> int | None:
    """Tokens that fit into the model, as `max_length` of a tokenizer; None without a limit.

    Args:
        tokenizer: the tokenizer.
        config: the configuration of the network.
        request: the training, whose method may put virtual tokens before each text.
    """
    ahead = 0 if request is None else virtual.count(request)
    sizes = [tokenizer.model_max_length]
    positions = [getattr(config, name, None) for name in ("max_position_embeddings", "n_positions")]
    sizes += [size - ahead for size in positions if size is not None]
    # T5's n_positions is no limit, and a tokenizer without one has 10^30.
    known = [size for size in sizes if size is not None and 0 < size < 10**7]
    if getattr(config, "position_embedding_type", None) == "relative_key" or config.model_type in ("t5", "mt5"):
        known = [size for size in sizes[:1] if size < 10**7]
    return min(known) if known else None


def load(request: Request, auto: Any, **more: Any) -> tuple[Any, set[str]]:
    """The base of a training in float32, or quantised for `method: qlora`; and its parameters without weights.

    Args:
        request: the training.
        auto: the class that loads it, such as AutoModelForCausalLM.
        more: further arguments of `from_pretrained`.
    """
    # With all weights trained, what a stage goes on from is a whole model.
    folder = request.start if request.method == "full" and request.start else request.base
    network, new = pretrained.load(auto, folder, **qlora.loading(request, auto, **more), **more)
    return qlora.unpacked(network), new


def load_head(request: Request, auto: Any, labels: list[str], **more: Any) -> tuple[Any, list[str]]:
    """A network with a head for some labels, and the modules of it that the base has no weights for.

    The head of the base is kept if its labels are these.
    """
    network, absent = load(
        request,
        auto,
        id2label=dict(enumerate(labels)),
        label2id={label: i for i, label in enumerate(labels)},
        ignore_mismatched_sizes=True,
        **more,
    )
    prefix = network.base_model_prefix
    parts = [key.removeprefix(f"{prefix}.").split(".")[0] for key in sorted(absent)]
    heads = [
        name for name, child in network.named_children() if name != prefix and any(True for _ in child.parameters())
    ]
    return network, list(dict.fromkeys([*heads, *parts]))
